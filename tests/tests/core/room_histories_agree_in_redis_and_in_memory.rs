//! The scripts that keep the histories of rooms in Redis against `RoomLog`, which keeps them in memory: the same calls, the same answers.
//!
//! Redis's clock is the real one. Each answer says what it showed, and the log in memory is given that.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use fanfare_core::broker::redis::Names;
use fanfare_core::broker::redis::history::Room;
use fanfare_core::history::{
    Continuity, Epoch, IdempotencyKey, Moment, NotStored, Part, Position, Query, Removal, Remove, Retention, RoomLog,
};
use fanfare_tests::{Failure, HistoryLink, Redis, Reply, RespConnection};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};

/// Names of keys and digests are few, so that they meet.
const KEYS: [&str; 4] = ["", "a", "b", "t"];

#[derive(Clone, Debug)]
enum Step {
    /// So many messages of this length; more than one have no key.
    Store {
        count: usize,
        bytes: usize,
        key: Option<(usize, u64)>,
    },
    Read {
        part: Place,
        messages_max: u32,
        bytes_max: u64,
    },
    /// The message so far before the last, or all where there is none; of the epoch that lasts, or another, if it is said.
    Remove(Option<Distance>, Option<bool>),
    Retain(Retention),
    /// How long keys are remembered, and how many.
    RetainKeys(Duration, u32),
    Pause(Duration),
    /// Redis becomes a replica of nobody and then a master again, so often: other incarnations, which are all noticed.
    FailOver(usize),
    /// What becomes of keys that expire or are evicted.
    Delete {
        meta: bool,
        log: bool,
        keys: bool,
    },
}

/// A part in terms of what has happened.
#[derive(Clone, Debug)]
enum Place {
    /// Of one of the epochs that there have been, or another; this far before the last message, or one after it.
    After(Option<Index>, Distance),
    Before(Distance),
    Newest,
}

#[derive(Clone, Debug)]
enum Distance {
    Back(u64),
    Ahead(u64),
}

impl Distance {
    fn from(&self, offset: u64) -> u64 {
        match *self {
            Distance::Back(count) => offset.saturating_sub(count),
            Distance::Ahead(count) => offset.saturating_add(count),
        }
    }
}

fn retention() -> impl Strategy<Value = Retention> {
    let messages_max = prop_oneof![3 => 1..6_u32, 2 => 20..60_u32, 2 => Just(u32::MAX)];
    let bytes_max = prop_oneof![2 => 0..200_u64, 2 => 1_000..3_000_u64, 3 => Just(u64::MAX)];
    let age_max = prop_oneof![2 => (1..40_u64).prop_map(Duration::from_millis), 2 => Just(Duration::MAX)];
    (messages_max, bytes_max, age_max).prop_map(|(messages_max, bytes_max, age_max)| Retention {
        messages_max,
        bytes_max,
        age_max,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::option::weighted(0.5, (0..KEYS.len(), 0..2_u64));
    let one = (0..80_usize, key).prop_map(|(bytes, key)| Step::Store { count: 1, bytes, key });
    let many = (prop_oneof![2..40_usize, 70..130_usize], 0..40_usize).prop_map(|(count, bytes)| Step::Store {
        count,
        bytes,
        key: None,
    });
    let distance = || {
        prop_oneof![
            5 => (0..12_u64).prop_map(Distance::Back),
            2 => (0..150_u64).prop_map(Distance::Back),
            1 => (1..3_u64).prop_map(Distance::Ahead),
            1 => Just(Distance::Ahead(u64::MAX)),
        ]
    };
    let part = prop_oneof![
        5 => (prop::option::weighted(0.95, any::<Index>()), distance()).prop_map(|(epoch, at)| Place::After(epoch, at)),
        2 => distance().prop_map(Place::Before),
        1 => Just(Place::Newest),
    ];
    let messages_max = prop_oneof![0..4_u32, 0..40_u32, Just(u32::MAX)];
    let bytes_max = prop_oneof![0..200_u64, 500..3_000_u64, Just(u64::MAX)];
    let read = (part, messages_max, bytes_max).prop_map(|(part, messages_max, bytes_max)| Step::Read {
        part,
        messages_max,
        bytes_max,
    });
    let deletions = prop::sample::select(vec![
        Step::Delete { meta: true, log: false, keys: false },
        Step::Delete { meta: false, log: true, keys: false },
        Step::Delete { meta: true, log: true, keys: false },
        Step::Delete { meta: true, log: true, keys: true },
    ]);
    let key_ages = prop_oneof![(1..25_u64).prop_map(Duration::from_millis), Just(Duration::MAX)];
    prop_oneof![
        12 => one,
        2 => many,
        12 => read,
        8 => (distance().prop_map(Some), prop::option::weighted(0.3, prop::bool::weighted(0.8)))
            .prop_map(|(at, epoch)| Step::Remove(at, epoch)),
        1 => Just(Step::Remove(None, None)),
        2 => retention().prop_map(Step::Retain),
        2 => (key_ages, 0..5_u32).prop_map(|(age_max, keys_max)| Step::RetainKeys(age_max, keys_max)),
        3 => (1..30_u64).prop_map(|ms| Step::Pause(Duration::from_millis(ms))),
        2 => prop_oneof![5 => Just(1_usize), 1 => 15..20_usize].prop_map(Step::FailOver),
        1 => deletions,
    ]
}

/// Steps that seldom meet by chance: more messages grow old together than one store forgets.
fn ageing() -> impl Strategy<Value = Vec<Step>> {
    (60..140_usize, 5..12_u64, 1..4_usize).prop_map(|(count, ms, stores)| {
        let age_max = Duration::from_millis(5);
        vec![
            Step::Retain(Retention { messages_max: u32::MAX, bytes_max: u64::MAX, age_max }),
            Step::Store { count, bytes: 1, key: None },
            Step::Pause(Duration::from_millis(ms)),
            Step::Store { count: stores, bytes: 1, key: None },
            Step::Read { part: Place::Newest, messages_max: u32::MAX, bytes_max: u64::MAX },
        ]
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = prop_oneof![30 => step().prop_map(|step| vec![step]), 1 => ageing()];
    prop::collection::vec(some, 1..40).prop_map(|some| some.concat())
}

/// One room, kept twice.
struct Twins<'a> {
    redis: &'a mut Meddler,
    link: &'a mut HistoryLink,
    listener: RespConnection,
    name: String,
    log: RoomLog,
    retention: Retention,
    key_age_max: Duration,
    keys_max: u32,
    drawn: u64,
    epochs: Vec<Epoch>,
    last_offset: u64,
}

/// An outsider's connection.
struct Meddler {
    connection: RespConnection,
    incarnation: String,
}

impl Meddler {
    fn new(redis: &Redis) -> Meddler {
        let mut meddler = Meddler { connection: redis.connect(), incarnation: String::new() };
        meddler.learn_incarnation();
        meddler
    }

    fn command(&mut self, parts: &[&str]) -> Reply {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let reply = self.connection.command(&parts);
        assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        reply
    }

    fn learn_incarnation(&mut self) {
        let Reply::Bytes(Some(info)) = self.command(&["INFO", "replication"]) else { panic!("no information") };
        let info = String::from_utf8(info).expect("UTF-8");
        let id = info.lines().find_map(|line| line.strip_prefix("master_replid:")).expect("it has an id");
        assert_ne!(id, self.incarnation);
        self.incarnation = id.to_owned();
    }

    fn fail_over(&mut self) {
        self.command(&["REPLICAOF", "127.0.0.1", "1"]);
        self.command(&["REPLICAOF", "NO", "ONE"]);
        self.learn_incarnation();
    }

    fn now_ms(&mut self) -> u64 {
        let Reply::Array(parts) = self.command(&["TIME"]) else { panic!("no time") };
        let number = |part: &Reply| match part {
            Reply::Bytes(Some(digits)) => String::from_utf8_lossy(digits).parse::<u64>().expect("a number"),
            other => panic!("no number: {other:?}"),
        };
        number(&parts[0]) * 1_000 + number(&parts[1]) / 1_000
    }
}

fn room(name: &str, retention: Retention) -> Room<'_> {
    Room { names: Names::plain("test:"), name, retention, meta_age_max: Duration::from_secs(30 * 24 * 3_600) }
}

impl Twins<'_> {
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn saw(&mut self, position: Position) {
        self.last_offset = position.offset;
        if !self.epochs.contains(&position.epoch) {
            self.epochs.push(position.epoch);
        }
    }

    fn store(&mut self, bytes: usize, key: Option<(usize, u64)>) -> Result<(), TestCaseError> {
        let drawn = self.draw();
        // No two are alike, within what their length allows.
        let payload: String = format!("{drawn:x}").chars().rev().cycle().take(bytes).collect();
        let key = key.map(|(name, digest)| IdempotencyKey {
            text: KEYS[name],
            digest,
            age_max: self.key_age_max,
            keys_max: self.keys_max,
        });
        let before_ms = self.redis.now_ms();
        let room = room(&self.name, self.retention);
        let stored = self.link.store(&room, drawn, key.as_ref(), payload.as_bytes());
        let incarnation = self.redis.incarnation.clone();
        let moment = |now_ms| Moment { now_ms, incarnation: &incarnation, drawn };
        match stored {
            Ok(kept) => {
                let expected = self.log.store(&moment(kept.time_ms), &self.retention, key.as_ref(), payload.as_bytes());
                prop_assert_eq!(Ok(kept.at), expected);
                prop_assert!(kept.is_announced && kept.trouble.is_empty(), "{:?}", kept);
                if kept.at.is_new {
                    let Position { epoch, offset } = kept.at.position;
                    let published = format!("F2 {epoch} {offset} {payload}");
                    prop_assert_eq!(String::from_utf8(self.listener.next_message()), Ok(published));
                    self.saw(kept.at.position);
                }
            }
            // An error says no time: it must be right for one of those that it can have been.
            Err(Failure::KeyReused) => {
                let refuses = |log: &RoomLog| {
                    let mut log = log.clone();
                    let error = log.store(&moment(before_ms), &self.retention, key.as_ref(), payload.as_bytes());
                    (error == Err(NotStored::KeyReused)).then_some(log)
                };
                let log = refuses(&self.log);
                prop_assert!(log.is_some(), "the key is not known, or is the same message's");
                self.log = log.unwrap_or_default();
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn remove(&mut self, remove: &Remove, removed: &mut usize) -> Result<(), TestCaseError> {
        let drawn = self.draw();
        let before_ms = self.redis.now_ms();
        let answer = self.link.remove(&room(&self.name, self.retention), drawn, remove);
        let incarnation = self.redis.incarnation.clone();
        let moment = |now_ms| Moment { now_ms, incarnation: &incarnation, drawn };
        match answer {
            Ok(kept) => {
                let expected = self.log.remove(&moment(kept.time_ms), &self.retention, remove);
                prop_assert_eq!(Ok(kept.at), expected);
                prop_assert!(kept.is_announced && kept.trouble.is_empty(), "{:?}", kept);
                let Position { epoch, offset } = kept.at.position;
                let published = format!("F2 {epoch} {offset} {}", remove.what.payload());
                prop_assert_eq!(String::from_utf8(self.listener.next_message()), Ok(published));
                self.saw(kept.at.position);
                *removed += 1;
            }
            Err(error @ (Failure::NoMessage | Failure::EpochUnknown)) => {
                let why = if error == Failure::NoMessage { NotStored::NoMessage } else { NotStored::EpochUnknown };
                let after_ms = self.redis.now_ms();
                let refuses = |now_ms| {
                    let mut log = self.log.clone();
                    (log.remove(&moment(now_ms), &self.retention, remove) == Err(why)).then_some(log)
                };
                let log = refuses(before_ms).or_else(|| refuses(after_ms));
                prop_assert!(log.is_some(), "{:?} is refused by redis alone", remove);
                self.log = log.unwrap_or_default();
            }
            Err(other) => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn read(&mut self, query: &Query) -> Result<Continuity, TestCaseError> {
        let drawn = self.draw();
        let room = room(&self.name, self.retention);
        let answer = self.link.read(&room, drawn, query);
        prop_assert!(answer.is_ok(), "{:?}", answer);
        let answer = answer.expect("it is one");
        let moment = Moment { now_ms: answer.time_ms, incarnation: &self.redis.incarnation, drawn };
        let expected = self.log.read(&moment, &self.retention, query);
        prop_assert_eq!(&answer.page, &expected, "redis and memory, to {:?}", query);
        self.saw(answer.page.last);
        Ok(answer.page.continuity)
    }

    fn query(&self, part: &Place, messages_max: u32, bytes_max: u64) -> Query {
        let part = match part {
            Place::After(epoch, distance) => {
                let unknown = Epoch { ordinal: 1, random: 0 };
                let known =
                    epoch.filter(|_| !self.epochs.is_empty()).map(|index| self.epochs[index.index(self.epochs.len())]);
                Part::After(Position { epoch: known.unwrap_or(unknown), offset: distance.from(self.last_offset) })
            }
            Place::Before(distance) => Part::Before(distance.from(self.last_offset)),
            Place::Newest => Part::Newest,
        };
        Query { part, messages_max, bytes_max }
    }

    fn delete(&mut self, meta: bool, log: bool, keys: bool) {
        for (is_asked, kinds) in [(meta, &["meta"][..]), (log, &["log"]), (keys, &["keys0", "keys1"])] {
            for kind in kinds.iter().filter(|_| is_asked) {
                let name = format!("test:\u{1}{kind}:{}", self.name);
                self.redis.command(&["DEL", &name]);
            }
        }
        if meta {
            self.log = RoomLog::default();
        } else {
            self.log.forget_messages();
        }
    }

    fn run(&mut self, steps: &[Step], seen: &mut Vec<Continuity>, removed: &mut usize) -> Result<(), TestCaseError> {
        for step in steps {
            match step {
                Step::Store { count, bytes, key } => {
                    for _ in 0..*count {
                        self.store(*bytes, *key)?;
                    }
                }
                Step::Read { part, messages_max, bytes_max } => {
                    let query = self.query(part, *messages_max, *bytes_max);
                    seen.push(self.read(&query)?);
                    self.read_hidden()?;
                }
                Step::Remove(at, epoch) => {
                    let lasting = self.epochs.last().copied();
                    let another = Epoch { ordinal: 1, random: 0 };
                    let epoch = epoch.map(|is_lasting| lasting.filter(|_| is_lasting).unwrap_or(another));
                    let what = at.as_ref().map_or(Removal::All, |at| Removal::One(at.from(self.last_offset)));
                    self.remove(&Remove { what, epoch }, removed)?;
                }
                Step::Retain(retention) => self.retention = *retention,
                Step::RetainKeys(age_max, keys_max) => (self.key_age_max, self.keys_max) = (*age_max, *keys_max),
                Step::Pause(time) => std::thread::sleep(*time),
                Step::FailOver(count) => {
                    for _ in 0..*count {
                        self.redis.fail_over();
                        self.read(&Query { part: Part::Newest, messages_max: 0, bytes_max: 0 })?;
                    }
                }
                Step::Delete { meta, log, keys } => self.delete(*meta, *log, *keys),
            }
        }
        self.read_hidden()
    }

    /// What is too old and only hidden is there in both, or in neither.
    fn read_hidden(&mut self) -> Result<(), TestCaseError> {
        let age_max = std::mem::replace(&mut self.retention.age_max, Duration::MAX);
        self.read(&Query { part: Part::Newest, messages_max: u32::MAX, bytes_max: u64::MAX })?;
        self.retention.age_max = age_max;
        Ok(())
    }
}

#[test]
fn the_same_calls_have_the_same_answers() {
    let redis = Redis::start();
    let link = RefCell::new(HistoryLink::connect(&redis, None));
    let meddler = RefCell::new(Meddler::new(&redis));
    let rooms = Cell::new(0);
    let (seen, removed) = (RefCell::new(Vec::new()), RefCell::new(0));
    let config = ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (retention(), steps());
    let outcome = TestRunner::new(config).run(&strategy, |(retention, steps)| {
        // A failure that is made smaller has a new room each time.
        rooms.set(rooms.get() + 1);
        let name = format!("room {}", rooms.get());
        let mut twins = Twins {
            listener: redis.listen(&format!("test:{name}")),
            redis: &mut meddler.borrow_mut(),
            link: &mut link.borrow_mut(),
            name,
            log: RoomLog::default(),
            retention,
            key_age_max: Duration::MAX,
            keys_max: 100,
            drawn: 0,
            epochs: Vec::new(),
            last_offset: 0,
        };
        twins.run(&steps, &mut seen.borrow_mut(), &mut removed.borrow_mut())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let seen = seen.borrow();
    let is_seen = |wanted: fn(&Continuity) -> bool| seen.iter().any(wanted);
    assert!(is_seen(|continuity| matches!(continuity, Continuity::Exact)));
    assert!(is_seen(|continuity| matches!(continuity, Continuity::Trimmed)));
    assert!(is_seen(|continuity| matches!(continuity, Continuity::Fenced(_))));
    assert!(is_seen(|continuity| matches!(continuity, Continuity::Unknown)));
    assert!(*removed.borrow() > 0, "nothing was removed");
}
