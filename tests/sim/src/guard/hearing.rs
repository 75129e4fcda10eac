//! What clients may hear, and what may be published as of whom: judged by how a connection stood when the instance acted.

use super::{Conduct, END, Guard, Moment, Standing, Times, moment};
use crate::identity::USERS;
use crate::issuer::Credential;
use crate::network::WireId;
use crate::reference::{Key, Place, ROOMS, Reference};
use fanfare_core::rules::Right;
use fanfare_core::{Denied, Source};
use std::rc::Rc;

/// What clients hear.
impl Guard {
    /// When the instance may have said what ends there on a connection.
    pub fn said(&self, wire: WireId, end: u64) -> Times {
        let writes = &self.wires[&wire].writes;
        let index = writes.partition_point(|written| written.from < end);
        index.checked_sub(1).map_or((0, Moment::MAX), |index| writes[index].times)
    }

    /// When it acted upon what ends there in what a client says, having said so at the latest at `until`.
    pub fn acted(&self, wire: WireId, end: u64, until: Moment) -> Times {
        let reads = &self.wires[&wire].reads;
        let index = reads.partition_point(|(total, _)| *total < end);
        (reads.get(index).map_or(until, |(_, at)| *at), until)
    }

    /// Whether somebody might do this at one of these times, and by which users.
    pub fn might(&self, wire: WireId, times: Times, right: Right, room: usize) -> Vec<Option<usize>> {
        let standings = self.wires[&wire].during(times);
        let allowed = standings.filter(|standing| self.permits(standing, right, room) == Some(Ok(())));
        allowed
            .map(|standing| match standing {
                Standing::Known(known) => Some(known.user),
                _ => None,
            })
            .collect()
    }

    /// Whether it might be refused to somebody at one of these times, with this code.
    pub fn might_refuse(&self, wire: WireId, times: Times, (right, room): (Right, usize), code: &str) -> bool {
        let is_unknown = code == "unauthorised";
        self.wires[&wire].during(times).any(|standing| self.permits(standing, right, room) == Some(Err(is_unknown)))
    }

    fn permits(&self, standing: &Standing, right: Right, room: usize) -> Option<Result<(), bool>> {
        match standing {
            Standing::Unknown => Some(self.identities.may(None, right, room)),
            Standing::Known(known) => Some(self.identities.may(Some((known.user, &known.grants)), right, room)),
            Standing::Waiting | Standing::Over => None,
        }
    }

    /// Whether it was allowed from the time on at which the instance read what ends there, and the connection went on.
    pub fn was_always_allowed(&self, (wire, end): (WireId, u64), right: Right, room: usize) -> bool {
        let Some(conduct) = self.wires.get(&wire) else { return false };
        let (from, to) = self.acted(wire, end, Moment::MAX);
        // Whoever cannot be told that it may not is closed for the first such thing, and the rest is not acted upon.
        let lasts = conduct.has_commands && conduct.ends.is_empty();
        lasts && conduct.during((from, to)).all(|standing| self.permits(standing, right, room) == Some(Ok(())))
    }

    /// Whether the connection might be closed with this code for its credential, which it has or has not.
    pub fn might_end(&self, wire: WireId, code: u16, (_, until): Times) -> bool {
        let conduct = &self.wires[&wire];
        let auth = &self.identities.auth;
        let is_denied = conduct.verdicts.iter().any(|(at, source, verdict)| {
            let Err(refusals) = verdict else { return false };
            let codes = |is_upgrade: bool| {
                refusals.iter().any(|denied| {
                    code == match denied {
                        Denied::Unavailable => 1013,
                        Denied::Forbidden => 4503,
                        Denied::Unauthorised if is_upgrade => 4501,
                        _ => 4001,
                    }
                })
            };
            *at <= until
                && match source {
                    // Who cannot be told.
                    Some(Source::Command) => !conduct.has_commands && codes(false),
                    Some(Source::Renewal) | None => false,
                    Some(Source::Request) if refusals[..] == [Denied::Unauthorised] => false,
                    Some(_) => auth.refuses_by_close && codes(true),
                }
        });
        let has_none = auth.refuses_by_close && code == 4501 && self.has_to_show(conduct);
        is_denied || has_none || conduct.ends.iter().any(|(at, of)| *at <= until && *of == code)
    }

    /// Whether it shows no credential, needs one, and could show none later.
    fn has_to_show(&self, conduct: &Conduct) -> bool {
        let auth = &self.identities.auth;
        auth.required && conduct.shows_none() && !(auth.command && conduct.has_commands)
    }

    /// Whether its request comes from a page that may not connect.
    pub fn is_kept_out(&self, wire: WireId) -> bool {
        !self.identities.admitted.passes(self.wires[&wire].page)
    }

    /// Whether nothing may be said to it any more, and might not at any of these times.
    pub fn is_over(&self, wire: WireId, times: Times) -> bool {
        self.wires[&wire].during(times).all(|standing| matches!(standing, Standing::Over))
    }

    /// Whether it had a credential that was not good: who tries many is closed.
    pub fn has_failed(&self, wire: WireId) -> bool {
        self.wires[&wire]
            .verdicts
            .iter()
            .any(|(_, source, verdict)| *source == Some(Source::Command) && verdict.is_err())
    }

    /// Whether an upgrade might be answered so; 101 where it was accepted.
    pub fn might_answer(&self, wire: WireId, status: u16, now: u64) -> bool {
        let conduct = &self.wires[&wire];
        let auth = &self.identities.auth;
        if self.is_kept_out(wire) {
            return status == 403;
        }
        let refusals = conduct.verdicts.iter().find_map(|(_, source, verdict)| match (source, verdict) {
            (Some(Source::Request), Err(refusals)) if refusals[..] == [Denied::Unauthorised] => None,
            (None | Some(Source::Command | Source::Renewal), _) | (_, Ok(_)) => None,
            (Some(_), Err(refusals)) => Some(&refusals[..]),
        });
        let has_none = self.has_to_show(conduct);
        let is_waiting = conduct.asks.filter(|(source, _)| *source != Source::Command);
        match status {
            101 => {
                let is_known = conduct.shows_none() || conduct.verdicts.iter().any(|(_, _, of)| of.is_ok());
                auth.refuses_by_close && (refusals.is_some() || has_none) || is_known && !has_none
            }
            401 if !auth.refuses_by_close => {
                let is_bad = |denied: &Denied| matches!(denied, Denied::Unauthorised | Denied::Expired);
                has_none || refusals.is_some_and(|of| of.iter().any(is_bad))
            }
            403 if !auth.refuses_by_close => refusals.is_some_and(|of| of.contains(&Denied::Forbidden)),
            503 => {
                let is_unavailable = refusals.is_some_and(|of| of.contains(&Denied::Unavailable));
                // The answer that came too late may have come since.
                is_unavailable && !auth.refuses_by_close
                    || is_waiting.is_some_and(|(_, since)| now + 100_000 >= since + self.handshake)
                    || conduct.began.is_some() && conduct.shown.is_some() && self.was_late(conduct)
            }
            _ => false,
        }
    }

    fn was_late(&self, conduct: &Conduct) -> bool {
        let asked = conduct.standings.iter().find(|(_, standing)| matches!(standing, Standing::Waiting));
        let answered = conduct.verdicts.first();
        asked.zip(answered).is_some_and(|((asked, _), (at, ..))| at - asked + 400_000 >= self.handshake * 4)
    }

    /// What an `AUTH` might be answered: whose connection it is, or why not.
    pub fn might_answer_auth(&self, wire: WireId, said: Result<(&str, Option<u64>), &str>, times: Times) -> bool {
        let conduct = &self.wires[&wire];
        let auth = &self.identities.auth;
        let mut verdicts = conduct
            .verdicts
            .iter()
            .filter(|(at, source, _)| *at >= times.0 && *at <= times.1 && *source == Some(Source::Command));
        match said {
            Ok((user, expires_s)) => verdicts.any(|(_, _, verdict)| {
                let is_it =
                    |of: &Rc<Credential>| USERS[of.user] == user && of.expires_ms.map(|ms| ms / 1_000) == expires_s;
                verdict.as_ref().is_ok_and(is_it)
            }),
            Err("not_supported") => !auth.command,
            Err("pending") => auth.command && conduct.auths.len() > 1 || self.was_renewing(conduct),
            Err(code) => verdicts.any(|(_, _, verdict)| {
                let Err(refusals) = verdict else { return false };
                refusals.iter().any(|denied| {
                    code == match denied {
                        Denied::Forbidden => "forbidden",
                        Denied::Expired => "token_expired",
                        Denied::Unavailable => "auth_unavailable",
                        _ => "unauthorised",
                    }
                })
            }),
        }
    }

    fn was_renewing(&self, conduct: &Conduct) -> bool {
        conduct.asks.is_some_and(|(source, _)| source == Source::Renewal)
            || conduct.verdicts.iter().any(|(_, source, _)| *source == Some(Source::Renewal))
    }

    /// Whether it might be told that its credential expires.
    pub fn might_expire(&self, wire: WireId, (_, until): Times) -> bool {
        self.wires[&wire].notices.first().is_some_and(|at| *at <= until)
    }

    /// Whether a credential of the connection names the room for it to join, and its user may not be there, at one of these times.
    pub fn might_refuse_join(&self, wire: WireId, times: Times, room: Option<usize>) -> bool {
        self.wires[&wire].during(times).any(|standing| {
            let Standing::Known(known) = standing else { return false };
            let is_refused = |room: &usize| self.permits(standing, Right::Subscribe, *room) == Some(Err(false));
            known.join.iter().filter(|of| room.is_none_or(|room| room == **of)).any(is_refused)
        })
    }

    /// How far the instance had read Redis when it acted upon an upgrade whose credential was looked at before.
    pub fn upgraded_at(&self, wire: WireId) -> Option<Place> {
        self.wires[&wire].upgraded
    }

    /// Since when it may be in a room that has come with a credential since it `left` the room, and how far the instance had read when it last
    /// was to join it.
    pub fn brought(&self, wire: WireId, room: usize, left: Moment) -> Option<(u64, Place)> {
        let own_rooms = self.identities.auth.own_rooms;
        let joins = self.wires[&wire].joins.iter().filter(|(now, ..)| moment(*now, END) >= left);
        let mut joins = joins.filter(|(_, _, known)| known.brings(room, own_rooms));
        let first = joins.next()?;
        Some((first.0, joins.next_back().unwrap_or(first).1))
    }
}

/// What is published, and what is told of that.
impl Guard {
    /// How a connection stood, for people.
    pub fn tell_of(&self, wire: WireId, times: Times) -> String {
        let during: Vec<_> = self.wires[&wire].during(times).collect();
        format!("said at {times:?} of {:?}, when it was {during:?}", self.wires[&wire].standings)
    }

    /// An instance publishes this of a client's.
    pub fn published(&mut self, key: Key, reference: &mut Reference, payload: &[u8], now: u64) {
        let Some(sent) = reference.sent(key) else { return };
        let Some((wire, end)) = sent.behind else { return };
        let users = self.might(wire, self.acted(wire, end, moment(now, END)), Right::Publish, sent.room);
        let text = String::from_utf8_lossy(payload);
        let from = text.find('{').and_then(|at| serde_json::from_str::<serde_json::Value>(&text[at..]).ok());
        let from = from.as_ref().and_then(|text| text["from"].as_str());
        // The classic form has no place for it.
        let is_fair = if text.starts_with('{') {
            !users.is_empty()
        } else {
            users.iter().any(|of| of.map(|of| USERS[of]) == from)
        };
        if !is_fair {
            let room = ROOMS[sent.room];
            self.failed = Some(format!("{key:?} is published to {room} as of {from:?}, and might be as of {users:?}"));
        }
        reference.signed(key, USERS.into_iter().find(|user| Some(*user) == from));
    }
}
