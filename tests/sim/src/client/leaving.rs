//! What a client does that is told when to go, and what it must have got by then.

use super::{Client, Connection, Mood};
use crate::cluster::Surroundings;
use crate::options::{Fault, Options, chance};
use serde_json::Value;

/// What a connection was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Microseconds after which it should go, when that was heard.
    after: u64,
    heard_at: u64,
    /// It does.
    obeys: bool,
}

impl Client {
    /// `DRAIN`: when it should go.
    pub(super) fn told_to_go(&mut self, value: &Value, now: u64) -> Result<(), String> {
        let Some(draining) = &self.options.draining else { return Err("DRAIN, and nobody is let go".to_owned()) };
        let obeys = chance(&mut self.leaving, draining.obeys);
        let after = value["after_ms"].as_u64().ok_or("DRAIN without a time")? * 1_000;
        let spread = self.options.core.drain.spread.as_micros() as u64;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if after > spread {
            return Err(format!("DRAIN names a time beyond {spread} us"));
        }
        match connection.told.replace(Told { after, heard_at: now, obeys }) {
            None => Ok(()),
            Some(before) => Err(format!("DRAIN comes twice, and before it was {before:?}")),
        }
    }

    /// Goes, if its time has come. Whether it has.
    pub(super) fn goes_in_time(&mut self, mood: Mood, around: &mut Surroundings<'_>) -> bool {
        let told = self.connection.as_ref().and_then(|connection| connection.told).filter(|told| told.obeys);
        let goes = told.is_some_and(|told| told.heard_at + told.after <= around.timeline.now && mood == Mood::Active);
        if goes {
            self.close(around);
        }
        goes
    }
}

impl Connection {
    /// It is closed with 1012. Whether that may be so, where its instance lets it go.
    pub(super) fn check_let_go(&self, options: &Options, around: &Surroundings<'_>) -> Result<(), String> {
        let Some(leave) = around.reference.leave_of(self.wire).filter(|_| !options.has(Fault::InstanceClockJump))
        else {
            return Ok(());
        };
        let Some(lens) = &leave.lens else { return Ok(()) };
        if let Some(told) = self.told
            && around.timeline.now < leave.at + told.after
        {
            return Err(format!("closed before the time that it was told: {told:?}, {leave:?}"));
        }
        // Later, what is waited for is given up.
        if around.timeline.now < leave.at + options.core.timeouts.drain.as_micros() as u64 {
            self.view.check_let_go(lens, &around.reference, &around.network)?;
        }
        Ok(())
    }
}
