//! What a client does about who it is: which credential it shows, and how; and what of what it hears depends on that.

use super::Client;
use crate::cluster::Surroundings;
use crate::guard::{Guard, Times};
use crate::identity::{Identities, OWN, USERS, draw_grants};
use crate::network::Side;
use crate::options::{Options, chance, pick, rng};
use crate::pages::{Admitted, COOKIE, Page, SESSION, origin_line};
use crate::reference::ROOMS;
use crate::view::{Ask, Dialect, Start};
use fanfare_core::Source;
use fanfare_core::rules::Right;
use fastrand::Rng;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where in a request a credential may stand. The first that counts and has one is looked at.
const SOURCES: [Source; 5] = [Source::Header, Source::Query, Source::Subprotocol, Source::Cookie, Source::Request];

/// Who a client is, where clients are asked.
#[derive(Debug)]
pub(super) struct Persona {
    user: usize,
    rng: Rng,
    /// For what its requests show.
    requests: Rng,
    /// After the healing it shows no credential, because it need not.
    is_stranger: bool,
    /// It is to show a credential anew as soon as it can.
    is_due: bool,
    /// What it has shown by a command since everything has healed.
    proof: Option<String>,
    /// It was refused after the healing, because its user is banned for good.
    has_given_up: bool,
}

/// A credential as it stands in a request: fields of the query, lines of the head.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub query: String,
    pub lines: String,
}

impl Client {
    /// Who it is, and what it wants, in place of what it would want where all may do everything.
    pub(super) fn become_somebody(&mut self) {
        let Some(identities) = self.options.identities.clone() else { return };
        let mut requests = rng(self.options.seed, &format!("requests of client {}", self.number));
        let mut rng = rng(self.options.seed, &format!("who client {} is", self.number));
        let user = rng.usize(0..USERS.len());
        self.wants = identities.in_use.iter().copied().filter(|_| rng.bool()).collect();
        let is_stranger = !identities.auth.required && requests.u32(0..4) == 0;
        let who = (!is_stranger).then_some((user, &identities.full[user]));
        let may = |room: &usize| identities.may(who, Right::Subscribe, *room).is_ok();
        if self.dialect == Dialect::Broadcast {
            match identities.in_use.iter().copied().find(may) {
                Some(room) => self.wants = BTreeSet::from([room]),
                None => self.dialect = Dialect::Fanfare,
            }
        }
        self.persona =
            Some(Persona { user, rng, requests, is_stranger, is_due: false, proof: None, has_given_up: false });
        if let (Some(presence), Dialect::Fanfare) = (&self.options.presence, self.dialect) {
            let r = &mut self::rng(self.options.seed, &format!("what client {} observes", self.number));
            let rooms = (0..self.options.rooms).filter(|room| presence.kept[*room]);
            self.observed = rooms.filter(|_| chance(r, presence.observed)).collect();
        }
    }

    /// The user that it is, if it is in the room for all to see, once everything has healed.
    pub fn user_in(&self, room: usize) -> Option<&'static str> {
        let persona = self.persona.as_ref().filter(|persona| !persona.is_stranger && self.wants(room))?;
        self.view().map(|_| USERS[persona.user])
    }

    /// A room that it thinks of.
    pub(super) fn think_of_a_room(&mut self) -> usize {
        match &self.options.identities {
            Some(identities) => identities.in_use[self.rng.usize(0..identities.in_use.len())],
            None => self.rng.usize(0..self.options.rooms),
        }
    }

    /// Whether it will be able to, after the healing, as far as that depends on who it is.
    pub(super) fn is_entitled(&self, right: Right, room: usize) -> bool {
        match (&self.persona, &self.options.identities) {
            (Some(Persona { user, is_stranger, .. }), Some(identities)) => {
                let who = (!is_stranger).then_some((*user, &identities.full[*user]));
                identities.may(who, right, room).is_ok()
            }
            _ => true,
        }
    }

    /// Whether its user is banned for good.
    pub fn is_banned(&self) -> bool {
        let banned = self.options.identities.as_ref().and_then(|identities| identities.banned);
        let user = self.persona.as_ref().filter(|persona| !persona.is_stranger).map(|persona| persona.user);
        self.is_healed && banned.is_some() && banned == user
    }

    /// Whether it has been refused, and will not come back.
    pub(super) fn has_given_up(&self) -> bool {
        self.persona.as_ref().is_some_and(|persona| persona.has_given_up) && self.connection.is_none()
    }

    /// Whether it would keep away from this, because it takes it that it may not, and its dialect cannot be told so.
    pub(super) fn shies_away(&mut self, right: Right, room: usize, around: &Surroundings<'_>) -> bool {
        let (Some(guard), Some(connection)) = (&around.guard, &self.connection) else { return false };
        if self.dialect == Dialect::Fanfare {
            return false;
        }
        let known = connection.shown.as_deref().and_then(|text| guard.issuer.credential(text));
        let known = known.map(|credential| (credential.user, &credential.grants));
        guard.identities.may(known, right, room).is_err()
            && self.persona.as_mut().is_some_and(|of| of.rng.u32(0..12) > 0)
    }

    /// A credential, its own or not, good or not; `None`: it shows none.
    fn draw_credential(&mut self, by_command: bool, around: &mut Surroundings<'_>) -> Option<String> {
        let (now, is_healed, own) = (around.timeline.now, self.is_healed, self.shows_own());
        let (guard, persona) = (around.guard.as_mut()?, self.persona.as_mut()?);
        let r = &mut persona.rng;
        let mut issue = |user, grants| guard.issuer.issue(user, grants, by_command, now);
        if is_healed {
            return Some(issue(persona.user, None));
        }
        match r.u32(8..100) {
            8..12 => Some("nonsense".to_owned()),
            12..18 => Some(issue(r.usize(0..USERS.len()), None)),
            18..30 => own.or(Some(issue(persona.user, None))),
            30..60 => Some(issue(persona.user, Some([draw_grants(r), draw_grants(r), draw_grants(r)]))),
            _ => Some(issue(persona.user, None)),
        }
    }

    /// One that it has shown before.
    fn shows_own(&self) -> Option<String> {
        self.shown_last.clone()
    }

    /// Whether one of its requests is of those of which there are so many in a thousand.
    fn draws(&mut self, of_thousand: impl Fn(&Identities) -> u32) -> bool {
        let (Some(persona), Some(identities)) = (&mut self.persona, &self.options.identities) else { return false };
        chance(&mut persona.requests, of_thousand(identities))
    }

    /// What it shows in its request.
    pub(super) fn show(&mut self, around: &mut Surroundings<'_>) -> Shown {
        if self.persona.is_none() {
            return Shown::default();
        }
        let (mut text, mut second) = (None, None);
        let is_stranger = self.persona.as_ref().is_some_and(|persona| persona.is_stranger);
        let shows_none = if self.is_healed { is_stranger } else { self.draws(|identities| identities.strangers) };
        if !shows_none {
            text = self.draw_credential(false, around);
            if !self.is_healed && self.draws(|identities| identities.doubled) {
                second = self.draw_credential(false, around);
            }
        }
        let (Some(guard), Some(persona), Some(connection)) =
            (&mut around.guard, &mut self.persona, &mut self.connection)
        else {
            return Shown::default();
        };
        let (auth, admitted) = (&guard.identities.auth, guard.identities.admitted);
        let has_cookies = auth.cookie.is_some() && admitted != Admitted::Any;
        let counts = [auth.header, auth.query.is_some(), auth.subprotocol, has_cookies, auth.requests];
        let enabled: Vec<usize> = (0..SOURCES.len()).filter(|place| counts[*place]).collect();
        // Sometimes it shows it where it does not count.
        let is_lost = !self.is_healed && persona.rng.u32(0..12) == 0;
        let place = if is_lost { persona.rng.usize(0..SOURCES.len()) } else { pick(&mut persona.rng, &enabled) };
        let r = &mut persona.requests;
        let mut texts = [const { None }; SOURCES.len()];
        if let Some(second) = second {
            texts[r.usize(0..SOURCES.len())] = Some(second);
        }
        texts[place] = text;
        let by_cookie = SOURCES[place] == Source::Cookie;
        let page =
            if self.is_healed { admitted.draw_good_page(by_cookie, r) } else { admitted.draw_page(by_cookie, r) };
        let shown = written(&texts, page);
        // The first place counts that has one. The last has whatever the others have not.
        let does_count = |place: &usize| {
            let source = SOURCES[*place];
            counts[*place] && texts[*place].is_some() && (source != Source::Cookie || admitted.trusts(page))
        };
        let first =
            (0..SOURCES.len()).filter(does_count).find_map(|place| Some((SOURCES[place], texts[place].clone()?)));
        let counted = first.or(auth.requests.then(|| (Source::Request, String::new())));
        let text = counted.as_ref().map(|(_, text)| text.clone()).filter(|text| !text.is_empty());
        connection.is_full = self.is_healed;
        connection.is_silent = !self.is_healed && text.is_none() && chance(r, guard.identities.silent);
        connection.shown = text.clone();
        self.shown_last = text;
        guard.begins(connection.wire, counted, page, self.dialect == Dialect::Fanfare);
        shown
    }

    /// The rooms that come with the credential that it shows in its request.
    pub(super) fn brought(&self, around: &Surroundings<'_>) -> BTreeSet<usize> {
        let (Some(guard), Some(connection)) = (&around.guard, &self.connection) else { return BTreeSet::new() };
        let known = connection.shown.as_deref().and_then(|text| guard.issuer.credential(text));
        let own_rooms = guard.identities.auth.own_rooms;
        (0..self.options.rooms).filter(|room| known.is_some_and(|known| known.brings(*room, own_rooms))).collect()
    }

    /// A client that is told nothing takes it that it is in the rooms that come with its credential.
    pub(super) fn expect_rooms(&mut self, around: &Surroundings<'_>) {
        let brought = self.brought(around);
        let Some(connection) = self.connection.as_mut().filter(|_| self.dialect == Dialect::Classic) else { return };
        for room in &brought {
            let ask = Ask::Subscribe(*room, false, Start::Live);
            connection.view.ask(None, ask, (connection.said, 0), around.timeline.now);
            connection.asked.push((Right::Subscribe, *room));
            self.wants.insert(*room);
        }
        connection.brought = brought;
    }

    /// It is known by a credential that names all rooms that it will ever name: those in which it is not by now it is to join without asking.
    pub(super) fn await_rooms(&mut self) {
        let (Some(identities), Some(persona)) = (&self.options.identities, &self.persona) else { return };
        let Some(connection) = self.connection.as_mut().filter(|_| self.dialect == Dialect::Fanfare) else { return };
        if connection.is_full && !persona.is_stranger {
            let view = &connection.view;
            let has = |room: &usize| view.is_member(*room) || view.waits_for(*room);
            connection.awaited = identities.brought(persona.user).into_iter().filter(|room| !has(room)).collect();
        }
    }

    /// Somebody who has shown no credential mostly does so at once, where that counts.
    pub(super) fn begins_by_auth(&mut self, around: &mut Surroundings<'_>) {
        let (Some(persona), Some(connection)) = (&mut self.persona, &self.connection) else { return };
        if connection.shown.is_none() && self.dialect == Dialect::Fanfare && persona.requests.u32(0..3) > 0 {
            self.auth(around);
        }
    }

    /// It is known by a credential that it has shown by a command.
    pub(super) fn is_known_by(&mut self, text: String) {
        let is_full = self.persona.as_ref().is_some_and(|persona| persona.proof.as_ref() == Some(&text));
        if let Some(connection) = &mut self.connection {
            (connection.shown, connection.is_full) = (Some(text), is_full);
        }
        self.await_rooms();
    }

    /// Whether that room's membership is not the client's to end, because it would not hear that it is put there again.
    pub(super) fn is_brought(&self, room: usize) -> bool {
        let is_brought = self.connection.as_ref().is_some_and(|connection| connection.brought.contains(&room));
        self.dialect == Dialect::Classic && (is_brought || self.is_own_room(room))
    }

    /// Whether it is some user's own room.
    pub(super) fn is_own_room(&self, room: usize) -> bool {
        self.options.identities.is_some() && (OWN..OWN + USERS.len()).contains(&room)
    }

    /// Shows a credential by a command.
    pub(super) fn auth(&mut self, around: &mut Surroundings<'_>) {
        let is_stranger = self.persona.as_ref().is_some_and(|persona| persona.is_stranger);
        let is_silent = self.connection.as_ref().is_some_and(|connection| connection.is_silent);
        let shows_none = if self.is_healed { is_stranger } else { is_silent };
        if shows_none {
            return;
        }
        let is_able = self.dialect == Dialect::Fanfare
            && self.connection.as_ref().is_some_and(|of| of.is_upgraded && !of.is_over && of.unfinished.is_none());
        if !is_able {
            if let Some(persona) = &mut self.persona {
                persona.is_due = true;
            }
            return;
        }
        let Some(text) = self.draw_credential(true, around) else { return };
        if let (Some(guard), Some(connection), Some(persona)) = (&mut around.guard, &self.connection, &mut self.persona)
        {
            guard.auth(connection.wire, &text);
            persona.is_due = false;
            persona.proof = self.is_healed.then(|| text.clone());
        }
        self.command("AUTH", &format!(",\"token\":\"{text}\""), Ask::Auth(text), around);
    }

    /// Is told that its credential will soon be good no more, and mostly shows another.
    pub(super) fn auth_in_time(&mut self, around: &mut Surroundings<'_>) {
        let Some(persona) = &mut self.persona else { return };
        if self.is_healed || persona.rng.u32(0..10) < 7 {
            self.auth(around);
        }
    }

    /// Shows a credential now and then. Says whether it did.
    pub(super) fn shows_itself(&mut self, around: &mut Surroundings<'_>) -> bool {
        let (Some(persona), Some(identities)) = (&mut self.persona, &self.options.identities) else { return false };
        let is_shown = std::mem::take(&mut persona.is_due) || chance(&mut persona.rng, identities.shows);
        if is_shown && self.dialect == Dialect::Fanfare {
            self.auth(around);
            return true;
        }
        false
    }

    /// Sees to it that it is known as who it is, with all that it may. Says whether it has yet to be.
    pub(super) fn proves_itself(&mut self, around: &mut Surroundings<'_>) -> bool {
        let is_banned = self.is_banned();
        let (Some(persona), Some(connection), Some(guard)) = (&mut self.persona, &self.connection, &around.guard)
        else {
            return false;
        };
        let is_due = std::mem::take(&mut persona.is_due);
        if connection.view.waits_for_auth() {
            persona.is_due = is_due;
            return !connection.is_full;
        }
        if connection.is_full && !is_due {
            return false;
        }
        let known = connection.shown.as_deref().and_then(|text| guard.issuer.credential(text));
        let is_own = known.is_none_or(|known| known.user == persona.user);
        let can_renew =
            self.dialect == Dialect::Fanfare && guard.identities.auth.command && is_own && !persona.is_stranger;
        if can_renew && !is_banned && (connection.is_full || persona.rng.u32(0..3) > 0) {
            self.auth(around);
        } else {
            self.drop_connection(around);
        }
        true
    }

    /// After the healing it wants what it may.
    pub(super) fn be_content(&mut self) {
        let Some(identities) = self.options.identities.clone() else { return };
        let Some(Persona { user, is_stranger, .. }) = &self.persona else { return };
        let (user, is_stranger) = (*user, *is_stranger);
        if self.is_banned() {
            return;
        }
        let wants = std::mem::take(&mut self.wants);
        self.wants = wants.into_iter().filter(|room| self.is_entitled(Right::Subscribe, *room)).collect();
        if self.dialect != Dialect::Broadcast && !is_stranger {
            self.wants.extend(identities.brought(user));
        }
        if let Some(connection) = &mut self.connection {
            connection.is_full = false;
        }
    }

    /// When the instance may have said what has just been heard.
    pub(super) fn times(&self, guard: &Guard, around: &Surroundings<'_>) -> Times {
        let Some(connection) = &self.connection else { return (0, u64::MAX) };
        let read = around.network.read_total(connection.wire, Side::Near);
        guard.said(connection.wire, read - connection.incoming.unread_bytes())
    }

    /// An upgrade is answered, with 101 or otherwise. Says whether it is known to be for its credential.
    ///
    /// # Errors
    /// It should have been answered otherwise.
    pub(super) fn judge_answer(&mut self, status: u16, around: &Surroundings<'_>) -> Result<bool, String> {
        let (Some(guard), Some(connection)) = (&around.guard, &self.connection) else { return Ok(false) };
        let is_fair = guard.might_answer(connection.wire, status, around.timeline.now);
        if is_fair
            && self.is_banned()
            && let Some(persona) = &mut self.persona
        {
            persona.has_given_up = status == 403 && !guard.is_kept_out(connection.wire);
        }
        match status {
            101 | 401 | 403 if !is_fair => Err(format!("the upgrade is answered with {status}, for no reason")),
            _ => Ok(is_fair),
        }
    }

    /// Whether the connection may be closed so, for who the client is.
    pub(super) fn is_closed_fairly(&mut self, code: u16, reason: &str, around: &mut Surroundings<'_>) -> bool {
        let (Some(guard), Some(connection)) = (&around.guard, &self.connection) else { return false };
        let times = self.times(guard, around);
        let wire = connection.wire;
        let is_refused = |name: &str| {
            let asked = connection.asked.iter();
            let mut asked = asked.filter(|(right, room)| guard.might_refuse(wire, (0, times.1), (*right, *room), name));
            self.dialect != Dialect::Fanfare && asked.next().is_some()
        };
        let is_fair = guard.might_end(wire, code, times)
            || match code {
                4501 => is_refused("unauthorised"),
                4503 => {
                    let comes_with_it = self.dialect == Dialect::Classic && guard.might_refuse_join(wire, times, None);
                    comes_with_it || is_refused("forbidden")
                }
                4509 | 1013 => guard.has_failed(wire),
                _ => false,
            };
        if is_fair && code == 4501 {
            let is_late = reason == "no credential came in time";
            around.guard.iter_mut().for_each(|guard| {
                guard.count(if is_late {
                    "connections that showed none in time"
                } else {
                    "closes for want of a credential"
                })
            });
        }
        if is_fair
            && self.is_banned()
            && let Some(persona) = &mut self.persona
        {
            persona.has_given_up = code == 4503;
        }
        is_fair
    }

    /// Judges what is said of a room, or of the client, by who the client is to the instance.
    ///
    /// # Errors
    /// It must not be said to it.
    pub(super) fn judge(
        &self,
        (kind, room, id): (&str, Option<usize>, Option<u64>),
        said: &Value,
        around: &Surroundings<'_>,
    ) -> Result<(), String> {
        let (Some(guard), Some(connection)) = (&around.guard, &self.connection) else { return Ok(()) };
        let (wire, times, view) = (connection.wire, self.times(guard, around), &connection.view);
        let code = said["code"].as_str().unwrap_or_default();
        let asked = view.asked(id, room);
        let acted = asked.map_or(times, |(_, end)| guard.acted(wire, end, times.1));
        let might =
            |times: Times, right: Right| room.is_none_or(|room| !guard.might(wire, times, right, room).is_empty());
        let might_always =
            |right: Right| room.is_none_or(|room| !guard.might_refuse(wire, times, (right, room), "forbidden"));
        let is_fair = match (kind, asked.map(|(ask, _)| ask)) {
            ("MESSAGE" | "REMOVED" | "PRESENT" | "JOINED" | "LEFT", _) => might(times, Right::Subscribe),
            ("HISTORY", _) => might(times, Right::History),
            ("SUBSCRIBED", Some(Ask::Subscribe(_, _, start))) => {
                might(times, Right::Subscribe) && (*start == Start::Live || might(times, Right::History))
            }
            ("SUBSCRIBED", _) => might(times, Right::Subscribe),
            ("UNSUBSCRIBED", _) if code == "forbidden" => {
                let is_refused =
                    |code| guard.might_refuse(wire, times, (Right::Subscribe, room.unwrap_or_default()), code);
                let is_waiting = room.is_some_and(|room| !view.is_member(room) || view.has_asked_back(room));
                // Whoever is to be given what was said before, or the rest of it, may not have that.
                is_refused("forbidden") || is_refused("unauthorised") || is_waiting && !might_always(Right::History)
            }
            ("AUTHENTICATED", _) => {
                let user = said["user"].as_str().unwrap_or_default();
                guard.might_answer_auth(wire, Ok((user, said["expires"].as_u64())), acted)
            }
            ("ERROR", Some(Ask::Auth(_))) => guard.might_answer_auth(wire, Err(code), acted),
            ("ERROR", _) if code == "token_expiring" => guard.might_expire(wire, times),
            ("ERROR", Some(ask)) if matches!(code, "forbidden" | "unauthorised") => {
                let refuses = |right, room| guard.might_refuse(wire, acted, (right, room), code);
                match ask {
                    Ask::Subscribe(room, _, start) => {
                        refuses(Right::Subscribe, *room) || *start != Start::Live && refuses(Right::History, *room)
                    }
                    Ask::History(room, _) => refuses(Right::History, *room),
                    Ask::Who(room, _) => refuses(Right::Subscribe, *room),
                    Ask::Send(key) => {
                        around.reference.sent(*key).is_some_and(|sent| refuses(Right::Publish, sent.room))
                    }
                    _ => false,
                }
            }
            // Of a room that its credential names it has not asked; and who is in a room it may see no more.
            ("ERROR", None) if matches!(code, "forbidden" | "unauthorised") => {
                let is_unseen = |room| {
                    view.is_told_who(room) && guard.might_refuse(wire, times, (Right::Subscribe, room), "forbidden")
                };
                let is_refused = guard.might_refuse_join(wire, times, room) || room.is_some_and(is_unseen);
                id.is_none() && room.is_some() && code == "forbidden" && is_refused
            }
            _ => true,
        };
        if is_fair {
            return Ok(());
        }
        let room = room.map(|room| ROOMS[room]);
        Err(format!("{kind} {code} of room {room:?}: {}", guard.tell_of(wire, times)))
    }

    /// A message of somebody says whose it is, and nothing else does.
    ///
    /// # Errors
    /// It says something else.
    pub(super) fn judge_sender(said: &Value, from: Option<&str>) -> Result<(), String> {
        match said["from"].as_str() == from {
            true => Ok(()),
            false => Err(format!("it says that it is from {:?}, and is from {from:?}", said["from"])),
        }
    }

    /// Counts what is said because of who it is.
    pub(super) fn count(&self, kind: &str, said: &Value, room: Option<usize>, around: &mut Surroundings<'_>) {
        let (code, has_id) = (said["code"].as_str(), !said["id"].is_null());
        let is_put = kind == "SUBSCRIBED" && room.is_some_and(|room| self.was_put(None, room, around));
        let what = match (kind, code) {
            ("SUBSCRIBED", _) if is_put && !has_id => "rooms that came with credentials",
            ("ERROR", Some("forbidden")) if !has_id => "rooms that came with credentials and were refused",
            ("UNSUBSCRIBED", Some("forbidden")) => "memberships that were taken back",
            ("AUTHENTICATED", _) => "credentials that were shown by AUTH and are good",
            _ => return,
        };
        if let Some(guard) = &mut around.guard {
            guard.count(what);
        }
    }

    /// Judges anything that is said to it, but that the connection ends.
    ///
    /// # Errors
    /// Nothing might be said to it any more.
    pub(super) fn judge_any(&self, around: &Surroundings<'_>) -> Result<(), String> {
        let (Some(guard), Some(connection)) = (&around.guard, &self.connection) else { return Ok(()) };
        let times = self.times(guard, around);
        if guard.is_over(connection.wire, times) {
            return Err(format!("it hears something: {}", guard.tell_of(connection.wire, times)));
        }
        Ok(())
    }

    /// Hears of a room in which it was put by its credential. Says whether it was.
    pub(super) fn was_put(&self, id: Option<u64>, room: usize, around: &Surroundings<'_>) -> bool {
        // Whoever asks for one does so with an id, or in the request.
        let has_asked = self.connection.as_ref().is_none_or(|of| of.view.asked(None, Some(room)).is_some());
        id.is_none() && around.guard.is_some() && !has_asked
    }
}

/// Credentials as they stand in the request of a page, each in the place of its source.
fn written(texts: &[Option<String>; SOURCES.len()], page: Page) -> Shown {
    let mut shown = Shown { query: String::new(), lines: origin_line(page) };
    for (source, text) in SOURCES.into_iter().zip(texts) {
        let Some(text) = text else { continue };
        match source {
            Source::Header => shown.lines += &format!("Authorization: Bearer {text}\r\n"),
            Source::Query => shown.query = format!("token={text}"),
            Source::Cookie => shown.lines += &format!("Cookie: other=1; {COOKIE}={text}\r\n"),
            Source::Request => shown.lines += &format!("{SESSION}: {text}\r\n"),
            _ => shown.lines += &format!("Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.{text}\r\n"),
        }
    }
    shown
}

/// Whether a message goes with what its client writes in the place of what the server does.
pub(super) fn forged(options: &Options, rng: &mut Rng) -> &'static str {
    if options.identities.is_some() && rng.u32(0..8) == 0 { r#","from":"bob","time":1"# } else { "" }
}
