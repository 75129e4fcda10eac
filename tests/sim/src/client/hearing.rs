//! What a client makes of what it hears. Every word of it is judged.

use super::coming_back::{gap_in, history_in, place_in, removal_in};
use super::costly::GROWN_BYTES;
use super::{Client, Connection};
use crate::cluster::Surroundings;
use crate::incoming::Heard;
use crate::network::{Read, Side};
use crate::options::Fault;
use crate::reference::Reference;
use crate::trace;
use crate::view::Dialect;
use fanfare_core::rules::Right;
use fanfare_wire::{Frame, opcode};

/// What keeps a client's bytes from the server, or the server from reading them, for longer than a pong may take.
const HOLD_UPS: [Fault; 7] = [
    Fault::ClientBlackhole,
    Fault::ClientStall,
    Fault::ClientMute,
    Fault::NetworkStall,
    Fault::InstancePause,
    Fault::InstanceClockJump,
    Fault::InstanceLapses,
];

impl Client {
    /// Reads what is there, unless it does not want to.
    ///
    /// # Errors
    /// If it is not what it should be.
    pub fn read(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        while self.stalled_until <= around.timeline.now
            && let Some(connection) = &mut self.connection
        {
            match around.network.read(connection.wire, Side::Near, 64 * 1024, &mut around.timeline) {
                Read::Bytes(bytes) => {
                    (connection.heard_at, connection.doubts_since) = (around.timeline.now, None);
                    connection.incoming.feed(&bytes);
                    self.hear(around).map_err(|error| format!("client {}: {error}", self.number))?;
                }
                Read::Nothing => break,
                Read::End => {
                    if self.options.is_quiet() && !connection.is_over {
                        return Err(format!("client {}: nothing goes wrong, and its connection ends", self.number));
                    }
                    self.drop_connection(around);
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        while let Some(connection) = &mut self.connection
            && let Some(heard) = connection.incoming.next()?
        {
            trace!(around.trace, around.timeline, "client {} hears {heard}", self.number);
            if matches!(heard, Heard::Ping(_) | Heard::Pong(_) | Heard::Text(_)) {
                self.judge_any(around)?;
            }
            let Some(connection) = &mut self.connection else { return Ok(()) };
            match heard {
                Heard::Upgraded => {
                    self.judge_answer(101, around)?;
                    let Some(connection) = &mut self.connection else { return Ok(()) };
                    connection.is_upgraded = true;
                    self.await_rooms();
                    self.begins_by_auth(around);
                    // Rooms that were not named in the URL.
                    let Some(Connection { view, awaited, .. }) = &self.connection else { return Ok(()) };
                    let missing: Vec<usize> = self
                        .wants
                        .iter()
                        .copied()
                        .filter(|room| !view.waits_for(*room) && !view.is_member(*room) && !awaited.contains(room))
                        .collect();
                    for room in missing {
                        self.subscribe(room, around);
                    }
                }
                Heard::Refused(status) => {
                    let is_fair = self.judge_answer(status, around)?;
                    if !is_fair && (self.options.is_quiet() || status != 503 && status != 408) {
                        return Err(format!("the upgrade is answered with {status}"));
                    }
                    if let Some(connection) = &mut self.connection {
                        connection.is_over = true;
                    }
                }
                Heard::Ping(payload) => {
                    if self.mute_until <= around.timeline.now {
                        self.frame(Frame::new(opcode::PONG, payload), around);
                    }
                }
                Heard::Pong(payload) => {
                    if let Some((room, left)) = payload.split_once(' ')
                        && let (Ok(room), Ok(left)) = (room.parse(), left.parse())
                    {
                        connection.view.has_left(room, left);
                    }
                }
                Heard::Close(code, reason) => self.closed(code, &reason, around)?,
                Heard::Text(text) => self.text(&text, around)?,
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str, around: &mut Surroundings<'_>) -> Result<(), String> {
        let reference = &around.reference;
        if self.dialect != Dialect::Fanfare {
            let key = Reference::key_of(text)?;
            let sent = reference.sent(key).ok_or_else(|| format!("{key:?} was never sent"))?;
            let bare = sent.json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&sent.json);
            if text != bare {
                return Err(format!("{text} comes, and sent was {sent:?}"));
            }
            let room = sent.room;
            self.judge(("MESSAGE", Some(room), None), &serde_json::Value::Null, around)?;
            let Some(connection) = &mut self.connection else { return Ok(()) };
            let (view, reference) = (&mut connection.view, &mut around.reference);
            return view.message(room, (text, None), reference, &around.network);
        }
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        if value["type"] == "DRAIN" {
            return self.told_to_go(&value, around.timeline.now);
        }
        let room = value["room"].as_str().map(Reference::room).transpose()?;
        let (id, kind) = (value["id"].as_u64(), value["type"].as_str().unwrap_or_default());
        self.judge((kind, room, id), &value, around)?;
        if kind == "ERROR" && matches!(value["code"].as_str(), Some("token_expiring")) {
            self.auth_in_time(around);
            return Ok(());
        }
        self.count(kind, &value, room, around);
        let put = room.filter(|room| kind == "SUBSCRIBED" && self.was_put(id, *room, around));
        if let Some(room) = put.filter(|room| !self.is_healed || self.is_entitled(Right::Subscribe, *room)) {
            self.wants.insert(room);
        }
        let said = around.guard.as_ref().map(|guard| self.times(guard, around).0);
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let (view, reference) = (&mut connection.view, &mut around.reference);
        if let Some(room) = room.filter(|_| matches!(kind, "SUBSCRIBED" | "UNSUBSCRIBED" | "ERROR")) {
            connection.awaited.remove(&room);
            if let Some(said) = said.filter(|_| kind == "UNSUBSCRIBED") {
                connection.left.insert(room, said);
            }
        }
        let mut known_by = None;
        let result = match (kind, room) {
            ("MESSAGE", Some(room)) => {
                let (_, json) = text.split_once(",\"message\":").ok_or("no message")?;
                let offset = value["offset"].as_u64();
                let end = offset.map_or("}".to_owned(), |offset| format!(",\"offset\":{offset}}}"));
                let json = json.strip_suffix(&end).unwrap_or_default();
                let key = Reference::key_of(json)?;
                let Some(sent) = reference.sent(key).filter(|sent| sent.json == json) else {
                    return Err(format!("{json} comes, and sent was {:?}", reference.sent(key)));
                };
                Client::judge_sender(&value, sent.from)?;
                view.message(room, (json, offset), reference, &around.network)
            }
            ("SUBSCRIBED", Some(room)) if put.is_some() => {
                let told = (place_in(&value)?, value["recovered"].as_bool());
                let left = connection.left.get(&room).copied().unwrap_or_default();
                let times = around.guard.as_ref().and_then(|guard| guard.brought(connection.wire, room, left));
                let times = times.ok_or("it was put in a room that does not come with its credential")?;
                view.joined(room, told, times, reference, &around.network)
            }
            ("PRESENT" | "JOINED" | "LEFT", Some(room)) if id.is_none() => view.hears_who(kind, room, &value),
            ("PRESENT", Some(room)) => {
                connection.made.surplus += text.len() as u64;
                view.hears_answer(room, id.unwrap_or_default(), &value)
            }
            ("AUTHENTICATED", None) => view.authenticated(id).map(|text| known_by = Some(text)),
            ("SUBSCRIBED", Some(room)) => {
                let guard = around.guard.as_ref().filter(|_| id.is_none());
                let request = guard.and_then(|guard| guard.upgraded_at(connection.wire));
                let told = (place_in(&value)?, value["recovered"].as_bool(), request);
                view.subscribed(room, id, told, reference, &around.network)
            }
            ("GAP", Some(room)) if value["reason"] == "interrupted" => view.interrupted(room, reference),
            ("GAP", Some(room)) => view.gap(room, gap_in(&value)?, reference),
            ("REMOVED", Some(room)) => {
                let (removal, at) = removal_in(&value)?;
                view.removed(room, removal, at, reference)
            }
            ("HISTORY", Some(room)) => {
                let page = history_in(&value)?;
                // It is charged with what is stored, which has a header.
                connection.made.surplus += GROWN_BYTES * page.messages.len() as u64;
                view.history(room, id, &page, reference)
            }
            ("UNSUBSCRIBED", Some(room)) => {
                view.unsubscribed(room, id, value["code"].as_str(), reference, &around.network)
            }
            ("ACK", None) => view.acked(id.unwrap_or_default(), place_in(&value)?, reference),
            ("PONG", None) => view.ponged(id),
            ("ERROR", _) => {
                let code = value["code"].as_str().unwrap_or_default();
                connection.made.refused += u64::from(code == "too_fast");
                view.refused(code, id, room, reference)
            }
            _ => Err("an unknown text".to_owned()),
        };
        if let Some(room) = room {
            view.note_observing((kind, room, id), value["code"].as_str());
        }
        if kind != "MESSAGE" {
            connection.made.surplus += text.len() as u64;
        }
        let result = result.and_then(|()| connection.check_charged(&self.options, around.timeline.now));
        result.map_err(|error| format!("{error}: {text}"))?;
        if let Some(text) = known_by {
            self.is_known_by(text);
        }
        Ok(())
    }

    /// The server closes, or answers a close.
    fn closed(&mut self, code: u16, reason: &str, around: &mut Surroundings<'_>) -> Result<(), String> {
        let is_known = self.is_closed_fairly(code, reason, around);
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let options = &self.options;
        let answers = connection.is_over && code == 1000;
        let is_fair = match code {
            1002 | 1007 | 4509 => connection.is_rude,
            1012 => options.has(Fault::InstanceShutdown) || options.draining.is_some(),
            1013 => {
                self.dialect != Dialect::Fanfare && (options.has(Fault::RedisRefusesSubscribe) || options.is_tight())
            }
            // It has missed something, and could not be told.
            4010 => self.dialect != Dialect::Fanfare && options.histories.keeps_any() && !options.is_quiet(),
            4000 => HOLD_UPS.iter().any(|fault| options.has(*fault)),
            // The rest of a message that it had begun did not come.
            4008 if reason == "a message did not end in time" && HOLD_UPS.iter().any(|fault| options.has(*fault)) => {
                true
            }
            4008 if reason == "too slow" => around.network.was_full(connection.wire, Side::Far),
            _ => false,
        };
        let leave = around.reference.leave_of(connection.wire).map(|leave| (leave.at, leave.read));
        if let (1012, Some((at, read))) = (code, leave.or(around.reference.stop_of(connection.wire)))
            && around.timeline.now < at + options.core.timeouts.drain.as_micros() as u64
            && !options.has(Fault::InstanceClockJump)
            && let Some(ask) = connection.view.unanswered_before(read)
        {
            return Err(format!("closed with 1012 before {ask:?} is answered"));
        }
        if code == 1012 {
            connection.check_let_go(options, around)?;
        }
        let is_fair = is_fair || is_known || connection.is_too_costly(code, reason, &options.core, around.timeline.now);
        if !answers && !is_fair {
            return Err(format!("closed with {code}"));
        }
        if !connection.is_over {
            self.frame(Frame::close(code, ""), around);
            if let Some(connection) = &mut self.connection {
                connection.is_over = true;
            }
        }
        Ok(())
    }
}
