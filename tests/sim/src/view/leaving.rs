//! Whether a connection that is let go has got what it must have got.

use super::{Dialect, View};
use crate::network::Network;
use crate::reference::Reference;

impl View {
    /// It is closed because its instance lets it go, and rooms had had so many messages when that was told to do so. Rooms with history are left out: whoever comes back is given what is missing.
    ///
    /// # Errors
    /// What has not come.
    pub fn check_let_go(&self, lens: &[usize], reference: &Reference, network: &Network) -> Result<(), String> {
        let Some(incarnation) = self.incarnation else { return Ok(()) };
        for (room, seat) in self.seats.iter().enumerate().filter(|(room, _)| !reference.lives.keeps(*room)) {
            let counts = match self.dialect {
                Dialect::Fanfare => seat.is_member,
                _ => !seat.next.is_empty() && !seat.is_mixed,
            };
            if !counts {
                continue;
            }
            let until = lens[room];
            self.check_gap(room, (None, until), None, reference, network)?;
            // Where one of several nodes is away, those that are there are not asked.
            let mut sent = (0..until).filter(|_| !reference.is_slotted());
            if let Some(index) = sent.find(|index| reference.is_on_its_way((room, *index), incarnation, network)) {
                let key = reference.key(room, index);
                return Err(format!("closed, and {key:?}, number {index} of room {room}, is on its way"));
            }
        }
        Ok(())
    }
}
