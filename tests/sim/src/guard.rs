//! The reference for who may do what: what each instance knows of each connection's credential, turn by turn, and what follows from that for
//! what it says on that connection, and when. It goes by what has been fed to the instance, and never asks the core.

mod hearing;

use crate::identity::{EPOCH_MS, Identities};
use crate::issuer::{Credential, Issuer};
use crate::network::WireId;
use crate::options::{Options, chance, rng};
use crate::pages::{Admitted, Page, SESSION};
use crate::reference::{Incarnation, Place};
use fanfare_core::{Authenticate, Ban, ConnId, Denied, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How long a connection may outlive its credential while one is looked at that may renew it: half a minute, and the pause until the next look.
const GRACE_MS: u64 = 30_000;
const GRACE_AND_LOOK_MS: u64 = 35_000;
/// How long it may take until a connection is looked at again that has something unread, or a credential that is looked at.
const LOOK_MS: u64 = 5_000;
/// A clock that is set by more than this has the core look at all that depends on it.
const CLOCK_SLACK_MS: u64 = 1_000;
/// The ticks of timers, and where times were rounded.
const SLACK_MS: u64 = 500;

/// A time in a turn: microseconds, and the step. What a turn feeds stands before what clients say, and that before what becomes of it.
pub type Moment = u64;
const BROKER: u64 = 0;
const CREDENTIALS: u64 = 1;
const CLIENTS: u64 = 2;
const END: u64 = 3;
/// Microseconds after which an instance waits for an answer no longer.
const LOST: u64 = 120_000_000;

fn moment(now: u64, step: u64) -> Moment {
    now * 4 + step
}

/// From when to when something may have happened.
pub type Times = (Moment, Moment);

/// How a connection stands with its instance.
#[derive(Clone, Debug)]
enum Standing {
    /// Nobody knows whose it is.
    Unknown,
    /// The upgrade waits for its credential.
    Waiting,
    /// This is known.
    Known(Rc<Credential>),
    /// It may get nothing any more.
    Over,
}

/// What has become of a credential; where it was refused, all reasons for that.
type Verdict = Result<Rc<Credential>, Vec<Denied>>;

/// Bytes that were written to a connection, and when they may have been said.
#[derive(Clone, Copy, Debug)]
struct Written {
    from: u64,
    times: Times,
}

#[derive(Debug)]
struct Conduct {
    standings: Vec<(Moment, Standing)>,
    /// What the instance had read of it.
    reads: Vec<(u64, Moment)>,
    writes: Vec<Written>,
    written: u64,
    /// What is said waits since then, at the earliest.
    waits_since: Option<u64>,
    /// Nothing was left over in this turn.
    emptied_at: Option<u64>,
    shown: Option<(Source, String)>,
    /// The page that its request comes from.
    page: Page,
    /// Whether it can show one by a command.
    has_commands: bool,
    auths: Vec<String>,
    /// What is looked at, since when by the instance's clock.
    asks: Option<(Source, u64)>,
    /// What was said of its credentials; with several reasons to refuse one any may be given.
    verdicts: Vec<(Moment, Option<Source>, Verdict)>,
    /// It may be closed with this code from then on.
    ends: Vec<(Moment, u16)>,
    /// It may be told of the end of its credential from then on.
    notices: Vec<Moment>,
    /// How far the instance had read Redis when it was to join the rooms that come with a credential.
    joins: Vec<(u64, Place, Rc<Credential>)>,
    /// The same, when it was found out whose upgrade this is.
    upgraded: Option<Place>,
    /// By the instance's clock.
    began: Option<u64>,
    /// By that clock: its request had been answered by then.
    answered: Option<u64>,
    /// By that clock: until then it is not looked at whether it has shown a credential in time.
    excused: u64,
    /// One that may renew it was looked at when it expired.
    has_grace: bool,
}

/// What an instance knows beside its connections.
#[derive(Debug, Default)]
struct Desk {
    skew_ms: u64,
    /// What time it was told that it is, and when by its own clock.
    told: Option<(u64, u64)>,
    /// It is to be told anew.
    clock_due: bool,
    bans: Vec<Ban>,
    bans_due: bool,
    open: BTreeSet<WireId>,
}

/// A credential that is being looked at.
#[derive(Clone, Debug)]
pub struct Pending {
    due: u64,
    incarnation: Incarnation,
    /// Whose.
    pub conn: ConnId,
    wire: WireId,
    source: Option<Source>,
    text: String,
    /// Its client hears of rooms that it is put in.
    hears: bool,
}

/// What an instance is to be told of credentials in a turn, in this order.
#[derive(Debug, Default)]
pub struct Told {
    /// Unix, ms.
    pub unix_ms: Option<u64>,
    /// All bans.
    pub bans: Option<Vec<Ban>>,
    /// What has been found out.
    pub answers: Vec<(ConnId, Result<Rc<Credential>, Denied>)>,
}

/// All of it.
#[derive(Debug)]
pub struct Guard {
    /// What the seed has drawn.
    pub identities: Identities,
    /// Who issues credentials.
    pub issuer: Issuer,
    wires: BTreeMap<WireId, Conduct>,
    desks: BTreeMap<Incarnation, Desk>,
    pending: Vec<Pending>,
    /// What an instance has done that it must not.
    failed: Option<String>,
    handshake: u64,
    /// How often what has happened, for people.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Guard {
    /// Where the seed asks clients who they are.
    pub fn new(options: &Options) -> Option<Guard> {
        let identities = options.identities.clone()?;
        Some(Guard {
            issuer: Issuer::new(identities.clone(), rng(options.seed, "issuer")),
            identities,
            wires: BTreeMap::new(),
            desks: BTreeMap::new(),
            pending: Vec::new(),
            failed: None,
            handshake: options.core.timeouts.handshake.as_micros() as u64,
            counts: BTreeMap::new(),
        })
    }

    /// A client connects.
    pub fn connects(&mut self, wire: WireId) {
        let conduct = Conduct {
            standings: vec![(0, Standing::Unknown)],
            reads: Vec::new(),
            writes: Vec::new(),
            written: 0,
            waits_since: None,
            emptied_at: None,
            shown: None,
            page: None,
            has_commands: false,
            auths: Vec::new(),
            asks: None,
            verdicts: Vec::new(),
            ends: Vec::new(),
            notices: Vec::new(),
            joins: Vec::new(),
            upgraded: None,
            began: None,
            answered: None,
            excused: 0,
            has_grace: false,
        };
        self.wires.insert(wire, conduct);
    }

    /// It asks to be upgraded, of this page's accord, and shows this where it counts.
    pub fn begins(&mut self, wire: WireId, shown: Option<(Source, String)>, page: Page, has_commands: bool) {
        let conduct = self.wires.get_mut(&wire).expect("it has connected");
        let what = match &shown {
            _ if !self.identities.admitted.passes(page) => "requests of pages that may not connect",
            Some((Source::Cookie, _)) => "requests with a cookie that counts",
            Some((Source::Request, _)) => "requests that are looked at as a whole",
            Some(_) => "requests with another credential",
            None => "requests without a credential",
        };
        (conduct.shown, conduct.page, conduct.has_commands) = (shown, page, has_commands);
        self.count(what);
    }

    /// A client shows a credential by a command.
    pub fn auth(&mut self, wire: WireId, text: &str) {
        self.wires.get_mut(&wire).expect("it has begun").auths.push(text.to_owned());
    }

    /// Something has happened once more.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What an instance did that it must not.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failed.take()
    }
}

/// What instances do.
impl Guard {
    /// An instance has something new to hear of bans.
    pub fn bans_are_due(&mut self, incarnation: Incarnation) {
        if let Some(desk) = self.desks.get_mut(&incarnation) {
            desk.bans_due = true;
        }
    }

    /// What this instance knows. One that is new hears of all bans first.
    fn desk(&mut self, incarnation: Incarnation) -> &mut Desk {
        let rng = self.issuer.rng();
        self.desks.entry(incarnation).or_insert_with(|| Desk {
            skew_ms: rng.u64(0..2_000),
            bans_due: true,
            ..Desk::default()
        })
    }

    /// What the instance is to be told in this turn, at `clock` by its own clock. It has read Redis up to `place`.
    pub fn tell(&mut self, incarnation: Incarnation, (now, clock): (u64, u64), place: Place) -> Told {
        let mut told = Told::default();
        let wall_pause = self.identities.wall_pause;
        let bans = self.issuer.bans().to_vec();
        let thought_ms = self.desk(incarnation).told.is_some().then(|| self.unix_ms(incarnation, clock));
        let desk = self.desk(incarnation);
        if std::mem::take(&mut desk.clock_due) || desk.told.is_none_or(|(at, _)| clock >= at + wall_pause) {
            let unix_ms = EPOCH_MS + now / 1_000 + desk.skew_ms;
            (desk.told, told.unix_ms) = (Some((clock, unix_ms)), Some(unix_ms));
            // By another clock other bans are in force.
            if thought_ms.is_some_and(|thought_ms| thought_ms.abs_diff(unix_ms) > CLOCK_SLACK_MS) {
                self.apply_bans(incarnation, (now, clock));
            }
        }
        let desk = self.desk(incarnation);
        if std::mem::take(&mut desk.bans_due) {
            desk.bans = bans;
            told.bans = Some(desk.bans.clone());
            self.apply_bans(incarnation, (now, clock));
        }
        let is_due = |pending: &Pending| pending.incarnation == incarnation && pending.due <= now;
        let due: Vec<Pending> = self.pending.iter().filter(|of| is_due(of)).cloned().collect();
        self.pending.retain(|pending| !is_due(pending));
        for Pending { conn, wire, source, text, hears, .. } in due {
            let outcome = self.issuer.verify(&text, hears, now);
            self.judge(wire, incarnation, (source, &outcome), (now, clock), place);
            told.answers.push((conn, outcome));
        }
        told
    }

    /// Somebody to tell the instance of unasked, if that is to be.
    pub fn unasked(&mut self, incarnation: Incarnation) -> Option<WireId> {
        let unasked = if self.issuer.is_healed() { 0 } else { self.identities.unasked };
        if !chance(self.issuer.rng(), unasked) {
            return None;
        }
        let is_known = |wire: &&WireId| {
            let conduct = &self.wires[*wire];
            conduct.asks.is_none() && matches!(conduct.standing(), Standing::Known(_))
        };
        let known: Vec<WireId> = self.desks.get(&incarnation)?.open.iter().filter(is_known).copied().collect();
        (!known.is_empty()).then(|| known[self.issuer.rng().usize(0..known.len())])
    }

    /// What the instance is told of this connection unasked.
    pub fn renew(
        &mut self,
        wire: WireId,
        incarnation: Incarnation,
        (now, clock): (u64, u64),
        place: Place,
    ) -> Option<Result<Rc<Credential>, Denied>> {
        let conduct = &self.wires[&wire];
        let Standing::Known(known) = conduct.standing().clone() else { return None };
        let outcome = self.issuer.renew(&known, conduct.has_commands, now);
        self.judge(wire, incarnation, (None, &outcome), (now, clock), place);
        Some(outcome)
    }

    fn unix_ms(&self, incarnation: Incarnation, clock: u64) -> u64 {
        let (at, unix_ms) = self.desks[&incarnation].told.expect("it is told first");
        unix_ms + (clock - at) / 1_000
    }

    fn apply_bans(&mut self, incarnation: Incarnation, (now, clock): (u64, u64)) {
        let (unix_ms, desk) = (self.unix_ms(incarnation, clock), &self.desks[&incarnation]);
        for wire in &desk.open {
            let conduct = self.wires.get_mut(wire).expect("it has begun");
            let Standing::Known(known) = conduct.standing() else { continue };
            let refusals = known.refusals(&desk.bans, unix_ms);
            if !refusals.is_empty() {
                conduct.end(&refusals, moment(now, CREDENTIALS));
            }
        }
    }

    /// What becomes of a connection of whose credential this is said.
    fn judge(
        &mut self,
        wire: WireId,
        incarnation: Incarnation,
        (source, outcome): (Option<Source>, &Result<Rc<Credential>, Denied>),
        (now, clock): (u64, u64),
        place: Place,
    ) {
        self.count("credentials that instances were told of");
        let unix_ms = self.unix_ms(incarnation, clock);
        let (Some(conduct), desk) = (self.wires.get_mut(&wire), &self.desks[&incarnation]) else { return };
        if source.is_some() {
            conduct.asks = None;
        }
        if matches!(conduct.standing(), Standing::Over) {
            return;
        }
        let verdict = match outcome {
            Err(denied) => Err(vec![*denied]),
            Ok(credential) => {
                let mut refusals = credential.refusals(&desk.bans, unix_ms);
                if credential.expires_ms.is_some_and(|at| at <= unix_ms) {
                    refusals.push(Denied::Expired);
                }
                if let Standing::Known(known) = conduct.standing()
                    && known.user != credential.user
                {
                    refusals.push(Denied::Forbidden);
                }
                if refusals.is_empty() { Ok(credential.clone()) } else { Err(refusals) }
            }
        };
        let at = moment(now, CREDENTIALS);
        if matches!(conduct.standing(), Standing::Waiting) {
            conduct.upgraded = Some(place);
        }
        match (&verdict, source) {
            (Ok(credential), _) => {
                conduct.standings.push((at, Standing::Known(credential.clone())));
                conduct.joins.push((now, place, credential.clone()));
                conduct.has_grace = false;
            }
            // Whoever looked at the request has found nobody in it.
            (Err(refusals), Some(Source::Request)) if refusals[..] == [Denied::Unauthorised] => {
                conduct.standings.push((at, Standing::Unknown));
            }
            (Err(_), Some(Source::Header | Source::Query | Source::Subprotocol | Source::Cookie | Source::Request)) => {
                conduct.standings.push((at, Standing::Over));
            }
            (Err(_), Some(Source::Command)) => {}
            (Err(refusals), _) if refusals[..] == [Denied::Unavailable] => {}
            (Err(refusals), _) => conduct.end(refusals, at),
        }
        conduct.verdicts.push((at, source, verdict));
    }

    /// An instance asks about a credential. Says when it will be answered, if it is.
    pub fn asked(
        &mut self,
        incarnation: Incarnation,
        wire: WireId,
        asked: Authenticate<'_>,
        (now, clock): (u64, u64),
    ) -> Option<u64> {
        let Authenticate { conn, source, credential, has_origin, .. } = asked;
        let mut text = String::from_utf8_lossy(credential).into_owned();
        let (admitted, forwards) = (self.identities.admitted, self.identities.auth.forwards_head);
        let delay = self.issuer.delay(self.handshake);
        let Some(conduct) = self.wires.get_mut(&wire) else {
            self.failed = Some(format!("asked about {text}, which nobody has shown"));
            return None;
        };
        let is_shown = match source {
            Source::Command => conduct.auths.contains(&text),
            Source::Renewal => match conduct.standing() {
                Standing::Known(known) => known.renewal.as_ref() == Some(&text),
                _ => false,
            },
            _ => {
                conduct.standings.push((moment(now, CLIENTS), Standing::Waiting));
                let is_shown = conduct.shows(asked, admitted, forwards);
                if let (Source::Request, Some((_, shown))) = (source, &conduct.shown) {
                    text.clone_from(shown);
                }
                is_shown
            }
        };
        // An answer that is two minutes late comes no more.
        let is_looked_at = conduct.asks.is_some_and(|(_, since)| clock - since < LOST);
        // It ends in this very turn, which began with another look at it.
        let is_ending = matches!(conduct.standings.last(), Some((at, Standing::Over)) if *at >= moment(now, 0));
        if !(is_shown || is_ending) || is_looked_at {
            let Conduct { shown, page, asks, .. } = &*conduct;
            let standing = conduct.standing();
            let trusted = if has_origin { "trusted" } else { "not trusted" };
            self.failed = Some(format!(
                "asked about {text} by {source:?} of {conn:?}, {trusted}; shown was {shown:?} by page {page:?}; asked before, and not \
                 answered: {asks:?}, and now it is {clock}; it is {standing:?}"
            ));
        }
        // Told of it in the turn in which it asks, unasked or after it had given up, it waits for no answer.
        let is_told = matches!(conduct.verdicts.last(), Some((at, ..)) if *at >= moment(now, 0));
        conduct.asks = Some((source, if is_told { clock.saturating_sub(LOST) } else { clock }));
        let due = delay.map_or(u64::MAX, |delay| now + delay);
        let hears = conduct.has_commands;
        self.pending.push(Pending { due, incarnation, conn, wire, source: Some(source), text, hears });
        delay
    }

    /// An instance has taken a connection.
    pub fn opened(&mut self, incarnation: Incarnation, wire: WireId) {
        self.desk(incarnation).open.insert(wire);
    }

    /// It has read something of it.
    pub fn read(&mut self, wire: WireId, total: u64, (now, clock): (u64, u64)) {
        if let Some(conduct) = self.wires.get_mut(&wire) {
            conduct.began.get_or_insert(clock);
            conduct.reads.push((total, moment(now, CLIENTS)));
        }
    }

    /// An instance leaves a connection in peace, because it has something of it to read yet.
    pub fn spares(&mut self, wire: WireId, clock: u64) {
        if let Some(conduct) = self.wires.get_mut(&wire) {
            conduct.excused = clock + (LOOK_MS + SLACK_MS) * 1_000;
        }
    }

    /// It has written something to it, and not all of it was taken.
    pub fn wrote(&mut self, wire: WireId, taken: usize, is_short: bool, now: u64) {
        let Some(conduct) = self.wires.get_mut(&wire) else { return };
        // What is written again may have been said at any time since some of it had to wait.
        if conduct.emptied_at.take_if(|at| *at < now).is_some() {
            conduct.waits_since = None;
        }
        let since = conduct.waits_since.unwrap_or(now);
        let times = (moment(since, BROKER), moment(now, END));
        conduct.writes.push(Written { from: conduct.written, times });
        conduct.written += taken as u64;
        if is_short {
            (conduct.waits_since, conduct.emptied_at) = (Some(since), None);
        } else if conduct.waits_since.is_some() {
            conduct.emptied_at = Some(now);
        }
    }

    /// A turn of the instance has ended: credentials end by its clock. These connections are left.
    pub fn end_turn(&mut self, incarnation: Incarnation, (now, clock): (u64, u64), left: impl Fn(WireId) -> bool) {
        let unix_ms = self.unix_ms(incarnation, clock);
        let (auth, desk) = (&self.identities.auth, self.desks.get_mut(&incarnation).expect("it was told"));
        let timeout = auth.timeout.as_micros() as u64;
        let notice_ms = auth.expiry_notice.as_millis() as u64;
        for wire in &desk.open {
            let Some(conduct) = self.wires.get_mut(wire) else { continue };
            let waits = conduct.asks.is_some();
            if waits {
                conduct.excused = clock + (LOOK_MS + SLACK_MS) * 1_000;
            }
            if conduct.written > 0 {
                conduct.answered.get_or_insert(clock);
            }
            match conduct.standing().clone() {
                Standing::Known(known) => {
                    let Some(at_ms) = known.expires_ms else { continue };
                    if unix_ms + notice_ms + SLACK_MS >= at_ms {
                        conduct.notices.push(moment(now, END));
                    }
                    if unix_ms < at_ms {
                        conduct.has_grace = false;
                        continue;
                    }
                    let over_ms = unix_ms - at_ms;
                    conduct.has_grace |= waits || known.renewal.is_some();
                    if over_ms >= GRACE_MS || known.renewal.is_none() && !waits {
                        conduct.ends.push((moment(now, CREDENTIALS), 4001));
                    }
                    if over_ms >= if conduct.has_grace { GRACE_AND_LOOK_MS } else { 0 } + SLACK_MS {
                        conduct.standings.push((moment(now, END), Standing::Over));
                    }
                }
                Standing::Unknown if auth.required && conduct.began.is_some_and(|at| clock >= at + timeout) => {
                    conduct.ends.push((moment(now, CREDENTIALS), 4501));
                    // Of its last credential nothing could be found out.
                    conduct.ends.push((moment(now, CREDENTIALS), 1013));
                    let over = conduct.answered.map(|at| conduct.excused.max(at + timeout + SLACK_MS * 1_000));
                    if over.is_some_and(|over| clock >= over) {
                        conduct.standings.push((moment(now, END), Standing::Over));
                    }
                }
                _ => {}
            }
        }
        desk.open.retain(|wire| left(*wire));
    }

    /// Nothing goes wrong any more: all is answered now.
    pub fn heal(&mut self, now: u64) {
        self.issuer.heal();
        for pending in &mut self.pending {
            pending.due = pending.due.min(now);
        }
        for desk in self.desks.values_mut() {
            // Clocks that had jumped are set.
            (desk.clock_due, desk.bans_due) = (true, true);
        }
    }
}

impl Conduct {
    fn standing(&self) -> &Standing {
        &self.standings.last().expect("there is one from the beginning").1
    }

    /// Whether its request shows this, and comes from a page that may connect.
    fn shows(&self, asked: Authenticate<'_>, admitted: Admitted, forwards: bool) -> bool {
        let Authenticate { source, credential, head, has_origin, .. } = asked;
        let Some((at, shown)) = self.shown.as_ref().filter(|_| admitted.passes(self.page)) else { return false };
        let is_there = match source {
            // Whoever looks at the whole request finds it there.
            Source::Request => {
                let line = format!("\r\n{SESSION}: {shown}\r\n");
                credential.is_empty() && (!forwards || shown.is_empty() || contains(head, line.as_bytes()))
            }
            _ => credential == shown.as_bytes(),
        };
        *at == source && is_there && has_origin == admitted.trusts(self.page) && (forwards || head.is_empty())
    }

    /// Whether its request shows no credential, as far as is known.
    fn shows_none(&self) -> bool {
        let is_nobody = |(_, source, verdict): &(Moment, Option<Source>, Verdict)| {
            *source == Some(Source::Request) && matches!(verdict, Err(of) if of[..] == [Denied::Unauthorised])
        };
        self.shown.is_none() || self.verdicts.iter().any(is_nobody)
    }

    /// It has to end, for one of these reasons.
    fn end(&mut self, refusals: &[Denied], at: Moment) {
        self.standings.push((at, Standing::Over));
        for denied in refusals {
            self.ends.push((at, if *denied == Denied::Forbidden { 4503 } else { 4001 }));
        }
    }

    /// How it stood at these times.
    fn during(&self, (from, to): Times) -> impl Iterator<Item = &Standing> {
        let first = self.standings.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        self.standings[first..].iter().take_while(move |(at, _)| *at <= to.max(from)).map(|(_, standing)| standing)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
