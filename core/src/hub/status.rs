//! How the broker stands.

use super::rooms::LOST;

/// How the broker stands.
#[derive(Debug)]
pub(crate) struct BrokerStatus {
    /// Why no subscription can be made; `None` when it can.
    pub down: Option<Box<str>>,
    /// Why nothing can be published; `None` when it can.
    pub publisher_down: Option<Box<str>>,
    /// Why it refuses for a while what it is asked, if it does.
    pub refusing: Option<Box<str>>,
    /// Counts outages of the whole broker, from 2.
    pub epoch: u32,
    /// After an outage: the first room that has not been looked at.
    pub resubscribe_from: Option<u32>,
}

impl Default for BrokerStatus {
    fn default() -> BrokerStatus {
        let reason = Some("the broker has not been reached yet".into());
        BrokerStatus {
            down: reason.clone(),
            publisher_down: reason,
            refusing: None,
            epoch: LOST + 1,
            resubscribe_from: None,
        }
    }
}

impl BrokerStatus {
    /// Whether no subscription can be made.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    pub fn readiness(&self) -> Result<(), &str> {
        match self.down.as_ref().or(self.publisher_down.as_ref()).or(self.refusing.as_ref()) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}
