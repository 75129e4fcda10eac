//! Who is in one room, as this instance knows it: what those who observe the room have been told, and what questions are answered from.
//!
//! A [`View`] is learned: the broker is asked for all who are there, in parts, while what changes is heard. A change is a fact (this user
//! has so many connections now), so that it may be heard again, or be known already. Its number tells whether one is missing; then the
//! view is learned again. Whatever is found out, who joined and who left is said from the difference to what was known, so that for every
//! observer one balances the other.

use crate::presence::{Change, Present, RosterPage, Version, sound_info};
use crate::time::Time;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::time::Duration;

/// How long it may take until all instances have told the broker anew of their members, after it has lost what it knew: a view that is
/// learned sooner would have everybody leave and join again.
const RETOLD_AFTER: Duration = Duration::from_secs(15);

/// More users who have joined or left than these, as it turns out when all is read anew, are not told one by one: those who observe the room
/// are told anew who is there, because so much at once would have those closed who take it a little later.
const DIFFERENCES_MAX: usize = 256;

/// What is to be told to those who observe the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News<'a> {
    /// A user is there, with this info.
    Joined(&'a str, &'a str),
    /// A user is there no more.
    Left(&'a str),
    /// What they know counts no more, because the room has become large, or is large no more, or much is different.
    Replaced,
}

/// What is to be done about the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "otherwise the view does not become what it should be"]
pub(super) enum Next {
    Nothing,
    /// The part that begins there is to be read.
    Read(u64),
    /// All who are there are known: from now on, or again.
    Known,
    /// It is to be looked at again then.
    Later(Time),
}

/// How many connections a user has in the room, and its info.
type Known = (u32, Box<str>);

type Users = BTreeMap<Box<str>, Known>;

/// What is asked for: see [`View::course`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    serial: u64,
    number: u64,
}

#[derive(Debug)]
enum State {
    /// It is subscribed to, or will be; nothing has been asked.
    Unasked,
    Learning(Box<Learning>),
    /// It is what the broker knows, as of this version.
    Live(Version),
    /// The broker has lost what it knew. Until then, others tell it anew of their members.
    Unsettled(Time),
}

/// What has been read so far, and heard meanwhile.
#[derive(Debug, Default)]
struct Learning {
    /// The state that the first part was of.
    first: Option<Version>,
    read: Users,
    /// What has been heard of each user last.
    heard: BTreeMap<Box<str>, (Version, Known)>,
    /// The versions of the first and the last change that was heard, as long as they follow each other.
    span: Option<(Version, Version)>,
    has_leaped: bool,
    /// The last change that was heard, and how many there were after it.
    newest: Option<(Version, u32)>,
}

#[derive(Debug)]
pub(super) struct View {
    /// Names it, because another may have the room's key later.
    serial: u64,
    /// How often it was begun to be learned: what was asked before the last time is not answered.
    courses: u64,
    users: Users,
    total: u32,
    /// It has been learned at least once.
    is_known: bool,
    /// Only how many there are is known.
    is_large: bool,
    users_max: u32,
    /// The epoch that was learned last.
    epoch: Option<u64>,
    state: State,
}

impl View {
    pub fn new(serial: u64, users_max: u32) -> View {
        View {
            serial,
            courses: 0,
            users: BTreeMap::new(),
            total: 0,
            is_known: false,
            is_large: false,
            users_max,
            epoch: None,
            state: State::Unasked,
        }
    }

    /// What is asked and done for it now, in contrast to what was asked for another view of the room, or before it was begun anew.
    pub fn course(&self) -> Course {
        Course { serial: self.serial, number: self.courses }
    }

    /// Whether questions can be answered.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// How many users are there; and if there are not too many: those behind this one in the order of their names' bytes.
    pub fn users(&self, after: Option<&str>) -> (u32, Option<impl Iterator<Item = (&str, u32, &str)>>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = || self.users.range::<str, _>((from, Bound::Unbounded));
        let told =
            (!self.is_large).then(|| users().map(|(user, (connections, info))| (&**user, *connections, &**info)));
        (self.total, told)
    }

    /// The broker holds the subscription, from now on or again: all is read anew, because changes may have been missed.
    pub fn learn(&mut self) -> Next {
        self.begin(Learning::default())
    }

    fn begin(&mut self, learning: Learning) -> Next {
        self.courses += 1;
        self.state = State::Learning(Box::new(learning));
        Next::Read(0)
    }

    /// The subscription is lost, or what was asked is not answered.
    pub fn stop_learning(&mut self) {
        self.courses += 1;
        self.state = State::Unasked;
    }

    /// Whether it is being learned.
    pub fn is_learning(&self) -> bool {
        matches!(self.state, State::Learning(_))
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Time) -> Next {
        match self.state {
            State::Unsettled(until) if until <= now => {
                self.epoch = None;
                self.learn()
            }
            _ => Next::Nothing,
        }
    }

    /// The broker knows nothing of what it knew.
    fn unsettle(&mut self, now: Time) -> Next {
        let until = now + RETOLD_AFTER;
        self.state = State::Unsettled(until);
        Next::Later(until)
    }

    /// What changed, in the order in which it was published.
    pub fn hear(&mut self, change: &Change<'_>, now: Time, news: &mut dyn FnMut(News<'_>)) -> Next {
        let change = &Change { info: sound_info(change.info), ..*change };
        let Change { version, total, connections, user, info } = *change;
        let mut next = Next::Nothing;
        match &mut self.state {
            State::Unasked => return Next::Nothing,
            State::Learning(learning) => learning.hear(change),
            State::Live(last) if version.epoch != last.epoch => next = self.unsettle(now),
            // It had been read.
            State::Live(last) if version.number <= last.number => return Next::Nothing,
            State::Live(last) if last.number.checked_add(1) == Some(version.number) => *last = version,
            State::Live(_) => {
                let mut learning = Learning::default();
                learning.hear(change);
                next = self.begin(learning);
            }
            State::Unsettled(_) => {}
        }
        if !self.is_known {
            return next;
        }
        if self.is_large {
            self.total = total;
            return if self.is_small(total) && matches!(self.state, State::Live(_)) { self.learn() } else { next };
        }
        self.apply(user, connections, info, news);
        if self.total > self.users_max {
            self.enlarge(self.total, news);
        }
        next
    }

    /// A part of those who are there.
    pub fn read(&mut self, page: &RosterPage, now: Time, news: &mut dyn FnMut(News<'_>)) -> Next {
        let State::Learning(learning) = &mut self.state else { return Next::Nothing };
        let first = *learning.first.get_or_insert(page.version);
        if self.is_known && self.epoch.is_some_and(|epoch| epoch != first.epoch) {
            return self.unsettle(now);
        }
        if page.version.epoch != first.epoch {
            return self.learn();
        }
        if page.total > self.users_max {
            let newest = learning.newest;
            return self.count((page.version, page.total), newest, news);
        }
        for Present { user, connections, info } in &page.users {
            learning.read.insert(user.clone(), (*connections, sound_info(info).into()));
        }
        match page.next {
            Some(next) => Next::Read(next),
            None => self.finish(news),
        }
    }

    /// There are too many to read all of them: how many there are is what has been read, or heard since.
    fn count(&mut self, read: (Version, u32), heard: Option<(Version, u32)>, news: &mut dyn FnMut(News<'_>)) -> Next {
        let (version, total) = match heard {
            // Of two epochs nobody can say which is the newer one.
            Some((version, _)) if version.epoch != read.0.epoch => return self.learn(),
            Some(heard) if heard.0.number > read.0.number => heard,
            _ => read,
        };
        if self.is_small(total) {
            return self.learn();
        }
        self.state = State::Live(version);
        self.epoch = Some(version.epoch);
        self.enlarge(total, news);
        self.known()
    }

    /// Whether so many are few enough to know who they are, where there were too many before: some have to leave before it is worth it.
    fn is_small(&self, total: u32) -> bool {
        total <= self.users_max - self.users_max / 8
    }

    /// All has been read.
    fn finish(&mut self, news: &mut dyn FnMut(News<'_>)) -> Next {
        let State::Learning(learning) = &mut self.state else { return Next::Nothing };
        let Some(first) = learning.first else { return Next::Nothing };
        // Of two epochs nobody can say which is the newer one.
        let follows = |(begin, end): (Version, Version)| {
            end.epoch == first.epoch && begin.number <= first.number.saturating_add(1)
        };
        if learning.has_leaped || !learning.span.is_none_or(follows) {
            return self.learn();
        }
        let last = learning.last().unwrap_or(first);
        let Learning { read: mut users, heard, .. } = std::mem::take(&mut **learning);
        for (user, (version, (connections, info))) in heard {
            if version.epoch == first.epoch && version.number > first.number {
                match connections {
                    0 => drop(users.remove(&user)),
                    _ => drop(users.insert(user, (connections, info))),
                }
            }
        }
        self.state = State::Live(last);
        self.epoch = Some(first.epoch);
        // Some have come while it was read.
        match users.len() as u32 {
            total if total > self.users_max => self.enlarge(total, news),
            _ => self.replace(users, news),
        }
        self.known()
    }

    fn known(&mut self) -> Next {
        self.is_known = true;
        Next::Known
    }

    /// Those who are there are these.
    fn replace(&mut self, users: Users, news: &mut dyn FnMut(News<'_>)) {
        self.total = users.len() as u32;
        if !self.is_known || self.is_large {
            let was_large = std::mem::take(&mut self.is_large);
            self.users = users;
            if was_large && self.is_known {
                news(News::Replaced);
            }
            return;
        }
        let gone = self.users.keys().filter(|user| !users.contains_key(*user)).count();
        let come = users.len() + gone - self.users.len();
        if gone + come > DIFFERENCES_MAX {
            self.users = users;
            return news(News::Replaced);
        }
        self.users.retain(|user, _| {
            let is_there = users.contains_key(user);
            if !is_there {
                news(News::Left(user));
            }
            is_there
        });
        for (user, (_, info)) in &users {
            if !self.users.contains_key(user) {
                news(News::Joined(user, info));
            }
        }
        self.users = users;
    }

    /// There are too many users to know who they are.
    fn enlarge(&mut self, total: u32, news: &mut dyn FnMut(News<'_>)) {
        self.users.clear();
        self.total = total;
        if !std::mem::replace(&mut self.is_large, true) && self.is_known {
            news(News::Replaced);
        }
    }

    /// A user has so many connections now.
    fn apply(&mut self, user: &str, connections: u32, info: &str, news: &mut dyn FnMut(News<'_>)) {
        if !self.is_known || self.is_large {
            return;
        }
        if connections == 0 {
            if self.users.remove(user).is_some() {
                news(News::Left(user));
            }
        } else {
            match self.users.entry(user.into()) {
                Entry::Occupied(mut known) => *known.get_mut() = (connections, info.into()),
                Entry::Vacant(place) => {
                    place.insert((connections, info.into()));
                    news(News::Joined(user, info));
                }
            }
        }
        self.total = self.users.len() as u32;
    }

    /// Panics unless its parts agree with each other.
    pub fn check_invariants(&self) {
        assert!(!self.is_large || self.users.is_empty());
        assert!(self.is_large || self.total as usize == self.users.len());
        assert!(self.users.values().all(|(connections, _)| *connections > 0));
    }
}

impl Learning {
    fn hear(&mut self, change: &Change<'_>) {
        let version = change.version;
        self.newest = Some((version, change.total));
        let follows = |last: Version| last.epoch == version.epoch && last.number.checked_add(1) == Some(version.number);
        self.span = match self.span {
            Some((begin, last)) if follows(last) => Some((begin, version)),
            // A new epoch begins.
            Some((_, last)) if last.epoch != version.epoch => Some((version, version)),
            Some(_) => {
                self.has_leaped = true;
                return;
            }
            None => Some((version, version)),
        };
        self.heard.insert(change.user.into(), (version, (change.connections, change.info.into())));
    }

    /// The last change that was heard, if it is not in what was read.
    fn last(&self) -> Option<Version> {
        let (_, last) = self.span?;
        self.first.filter(|first| last.epoch == first.epoch && last.number > first.number).map(|_| last)
    }
}
