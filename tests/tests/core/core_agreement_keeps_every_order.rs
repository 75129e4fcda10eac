//! Messages that wait for agreement, in any order of sending, deciding and going, against a small model: what is published, as what, in
//! which order for each connection and room, and who is told of it.

use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{ConnId, Decision, Event, ProposalId};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use proptest::prelude::*;
use std::collections::VecDeque;

const CLIENTS: usize = 3;
const ROOMS: [&str; 3] = ["one", "two", "three"];

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Allow,
    Alter,
    Refuse,
    Unavailable,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send {
        client: usize,
        room: usize,
    },
    /// About one of those that wait.
    Decide {
        which: usize,
        verdict: Verdict,
    },
    Go {
        client: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Allow),
        1 => Just(Verdict::Alter),
        1 => Just(Verdict::Refuse),
        1 => Just(Verdict::Unavailable)
    ];
    let step = prop_oneof![
        8 => (0..CLIENTS, 0..ROOMS.len()).prop_map(|(client, room)| Step::Send { client, room }),
        8 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::Decide { which, verdict }),
        1 => (0..CLIENTS).prop_map(|client| Step::Go { client }),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Debug)]
struct Message {
    id: u32,
    proposal: ProposalId,
    verdict: Option<Verdict>,
}

struct World {
    lone: LoneCore,
    clients: Vec<(ConnId, bool)>,
    /// By client and room.
    waiting: Vec<Vec<VecDeque<Message>>>,
    next: u32,
}

/// What is published in a turn: where, what, and whether its sender is to be told.
fn published(said: &[Said]) -> Vec<(String, String, bool)> {
    let publishes = said.iter().filter_map(|said| match said {
        Said::Publish(room, payload, id) => Some((room.clone(), payload, id.is_some())),
        _ => None,
    });
    let message = |payload: &[u8]| {
        let text = String::from_utf8_lossy(payload).into_owned();
        text.split_once(r#""message":"#).and_then(|(_, rest)| rest.strip_suffix('}')).expect("a MESSAGE").to_owned()
    };
    publishes.map(|(room, payload, is_told)| (room, message(payload), is_told)).collect()
}

impl World {
    fn new() -> World {
        let mut rule = Rule::new("*".parse().expect("a pattern"));
        rule.before_publish = Some("hook".into());
        let mut lone = LoneCore::new(config(|config| config.rules = Rules::new(vec![rule]).expect("rules")));
        let clients = (0..CLIENTS).map(|_| (lone.client(), true)).collect();
        let waiting = (0..CLIENTS).map(|_| ROOMS.map(|_| VecDeque::new()).into()).collect();
        World { lone, clients, waiting, next: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { client, room } if self.clients[client].1 => self.send(client, room),
            Step::Decide { which, verdict } => self.decide(which, verdict),
            Step::Go { client } if self.clients[client].1 => {
                let conn = self.clients[client].0;
                self.lone.turn(|turn| turn.feed(Event::Closed { conn }));
                self.clients[client].1 = false;
            }
            Step::Send { .. } | Step::Go { .. } => {}
        }
    }

    fn send(&mut self, client: usize, room: usize) {
        let id = self.next;
        self.next += 1;
        let text = format!(r#"{{"type":"SEND_MESSAGE","room":"{}","message":{id},"id":{id}}}"#, ROOMS[room]);
        let said = self.lone.command(self.clients[client].0, &text);
        let [Said::Propose(proposal, asked)] = &said[..] else { panic!("one question: {said:?}") };
        assert_eq!(asked[2..], [ROOMS[room].to_owned(), id.to_string()]);
        self.waiting[client][room].push_back(Message { id, proposal: *proposal, verdict: None });
    }

    fn decide(&mut self, which: usize, verdict: Verdict) {
        let lines = (0..CLIENTS).flat_map(|client| (0..ROOMS.len()).map(move |room| (client, room)));
        let undecided = |message: &&Message| message.verdict.is_none();
        let all: Vec<(usize, usize, ProposalId)> = lines
            .flat_map(|(client, room)| {
                let line = self.waiting[client][room].iter().filter(undecided);
                line.map(move |message| (client, room, message.proposal))
            })
            .collect();
        let Some(&(client, room, proposal)) = all.get(which % all.len().max(1)) else { return };
        let decision = match verdict {
            Verdict::Allow => Decision::Allow,
            Verdict::Alter => Decision::Alter("\"altered\""),
            Verdict::Refuse => Decision::Refuse("no"),
            Verdict::Unavailable => Decision::Unavailable,
        };
        let said = self.lone.turn(|turn| turn.feed(Event::Decided { proposal, decision }));
        let (conn, is_open) = self.clients[client];
        let line = &mut self.waiting[client][room];
        line.iter_mut().filter(|message| message.proposal == proposal).for_each(|one| one.verdict = Some(verdict));
        let (mut expected, mut errors) = (Vec::new(), Vec::new());
        while let Some(&Message { id, verdict: Some(verdict), .. }) = line.front() {
            line.pop_front();
            let refused = |code: &str| format!(r#""code":"{code}""#).into_boxed_str();
            match verdict {
                Verdict::Allow => expected.push((ROOMS[room].to_owned(), id.to_string(), is_open)),
                Verdict::Alter => expected.push((ROOMS[room].to_owned(), "\"altered\"".to_owned(), is_open)),
                Verdict::Refuse => errors.push((id, refused("refused"))),
                Verdict::Unavailable => errors.push((id, refused("hook_unavailable"))),
            }
        }
        assert_eq!(published(&said), expected);
        let told = text_to(&said, conn);
        let mut rest = &*told;
        for (id, code) in errors.iter().filter(|_| is_open) {
            let after = rest.split_once(&**code).unwrap_or_else(|| panic!("{id} {code} in its place: {told}")).1;
            rest = after.split_once(&format!(r#""id":{id},"#)).unwrap_or_else(|| panic!("{id} in its place: {told}")).1;
        }
        assert_eq!(told.matches("ERROR").count(), if is_open { errors.len() } else { 0 }, "{told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn messages_of_a_line_keep_their_order(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        while world.lone.core.metrics().proposals_waiting_now > 0 {
            world.decide(0, Verdict::Allow);
        }
        assert!(world.waiting.iter().flatten().all(VecDeque::is_empty), "whatever was asked has been decided");
    }
}
