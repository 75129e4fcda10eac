//! What a client does in rooms with history: it goes on where it was, and reads what was said before.

use super::Client;
use crate::cluster::Surroundings;
use crate::view::{Ask, Gap, HistoryAsk, Message, Page, Part, Start};
use fanfare_core::history::{Epoch, Position, Removal};
use serde_json::Value;

impl Client {
    /// Where its next SUBSCRIBE of a room begins, and the fields that say so.
    pub(super) fn start(&mut self, room: usize) -> (Start, String) {
        let is_kept = self.options.histories.keeps(room);
        let Some(view) = self.view().filter(|view| is_kept && !view.is_member(room) && view.speaks_of_history()) else {
            return (Start::Live, String::new());
        };
        let place = view.place(room);
        match (place, self.rng.u32(0..10)) {
            (Some(place), 0..8) => {
                let Position { epoch, offset } = place;
                (Start::Since(place), format!(r#","since":{{"epoch":"{epoch}","offset":{offset}}}"#))
            }
            (_, 0..9) => {
                let messages = self.rng.u64(0..30);
                (Start::Newest(messages), format!(r#","history":{messages}"#))
            }
            _ => (Start::Live, String::new()),
        }
    }

    /// Reads a part of a room's history.
    pub(super) fn read_history(&mut self, room: usize, around: &mut Surroundings<'_>) {
        let Some(view) = self.view() else { return };
        let place = view.place(room);
        let limit = self.rng.u64(1..20);
        let offset = place.map_or(0, |place| self.rng.u64(0..=place.offset));
        let (part, mut fields) = match self.rng.u32(0..3) {
            0 => (Part::After(offset), format!(r#","after":{offset}"#)),
            1 => (Part::Before(offset + 1), format!(r#","before":{}"#, offset + 1)),
            _ => (Part::Newest, String::new()),
        };
        let epoch = place.map(|place| place.epoch).filter(|_| self.rng.bool());
        if let Some(epoch) = epoch {
            fields += &format!(r#","epoch":"{epoch}""#);
        }
        let ask = HistoryAsk { part, epoch, limit: limit as usize, last: around.reference.lives.last(room) };
        let fields = format!("{},\"limit\":{limit}{fields}", super::room_field(room));
        self.command("HISTORY", &fields, Ask::History(room, ask), around);
    }
}

/// The place that a `SUBSCRIBED` or an `ACK` names.
pub(super) fn place_in(said: &Value) -> Result<Option<Position>, String> {
    match (epoch_in(said, "epoch")?, said["offset"].as_u64()) {
        (Some(epoch), Some(offset)) => Ok(Some(Position { epoch, offset })),
        (None, None) => Ok(None),
        _ => Err("half a place".to_owned()),
    }
}

fn epoch_in(said: &Value, field: &str) -> Result<Option<Epoch>, String> {
    said[field].as_str().map(|epoch| epoch.parse().map_err(|error| format!("{epoch}: {error}"))).transpose()
}

/// What a `GAP` says.
pub(super) fn gap_in(said: &Value) -> Result<Gap, String> {
    let number = |field: &str| said[field].as_u64().ok_or_else(|| format!("GAP without {field}"));
    let epoch = |field: &str| epoch_in(said, field)?.ok_or_else(|| format!("GAP without {field}"));
    match said["reason"].as_str() {
        Some("trimmed") => Ok(Gap::Trimmed { epoch: epoch("epoch")?, from: number("from")?, to: number("to")? }),
        Some(reason @ ("failover" | "epoch")) => Ok(Gap::Epoch {
            epoch: epoch("epoch")?,
            previous: epoch("previous")?,
            fence: number("fence")?,
            lost: reason == "failover",
        }),
        _ => Err("GAP for an unknown reason".to_owned()),
    }
}

/// What a `REMOVED` says, and where it stands.
pub(super) fn removal_in(said: &Value) -> Result<(Removal, Position), String> {
    let epoch = epoch_in(said, "epoch")?.ok_or("REMOVED without an epoch")?;
    let at = said["at"].as_u64().ok_or("REMOVED without a place")?;
    Ok((what_is_removed(said, at)?, Position { epoch, offset: at }))
}

fn what_is_removed(said: &Value, at: u64) -> Result<Removal, String> {
    match (said["offset"].as_u64(), said["through"].as_u64()) {
        (Some(offset), None) => Ok(Removal::One(offset)),
        (None, Some(through)) if through + 1 == at => Ok(Removal::All),
        _ => Err(format!("something else is removed at {at}: {said}")),
    }
}

/// What a `HISTORY` says.
pub(super) fn history_in(said: &Value) -> Result<Page, String> {
    let epoch = epoch_in(said, "epoch")?.ok_or("HISTORY without an epoch")?;
    let messages = said["messages"].as_array().ok_or("HISTORY without messages")?;
    let message = |said: &Value| match (said["offset"].as_u64(), said["time"].as_u64()) {
        (Some(offset), Some(time_ms)) => {
            let from = said["from"].as_str().map(str::to_owned);
            let removes = said.get("removed").map(|removed| what_is_removed(removed, offset)).transpose()?;
            Ok(Message { offset, time_ms, from, json: said["message"].clone(), removes })
        }
        _ => Err(format!("a message without offset or time: {said}")),
    };
    let messages = messages.iter().map(message).collect::<Result<_, _>>()?;
    Ok(Page { epoch, messages, more: said["more"].as_bool().ok_or("HISTORY without more")? })
}
