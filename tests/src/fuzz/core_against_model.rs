//! A whole instance beside the reference model of rooms: what clients, sockets, time and the broker do is decoded from the
//! bytes, and every client must be sent exactly what the model says. Done twice, it gives the same bytes.

use super::steps::steps;
use crate::model::{Bounds, PARTITIONS, Step, World};
use arbitrary::{Result, Unstructured};

const CLIENTS_MAX: usize = 12;

/// The first byte chooses the limits of what may be unsent, and of what is said in a turn and at once; steps follow.
pub fn core_against_model(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let choice: u8 = bytes.arbitrary().unwrap_or(0);
    let (outbox_bytes_max, outbox_total_bytes_max) = match choice % 3 {
        0 => (1 << 20, 1 << 28),
        1 => (400, 1 << 28),
        _ => (800, 1_000),
    };
    let usual = Bounds::default();
    let members_per_turn_max = match choice / 3 % 4 {
        0 => usual.members_per_turn_max,
        few => few.into(),
    };
    let group_members_max = match choice / 12 % 4 {
        0 => usual.group_members_max,
        few => few.into(),
    };
    let limits = Bounds { outbox_bytes_max, outbox_total_bytes_max, members_per_turn_max, group_members_max };
    let turns = turns(&mut bytes);
    let log = history(limits, &turns);
    assert!(history(limits, &turns) == log, "the same events give the same actions");
}

fn history(limits: Bounds, turns: &[Vec<Step>]) -> Vec<u8> {
    let mut world = World::new(limits);
    world.apply(&[Step::Connect, Step::Connect]);
    for steps in turns {
        world.apply(steps);
    }
    world.heal();
    world.log
}

/// Steps, in turns that end where a step says so.
fn turns(bytes: &mut Unstructured<'_>) -> Vec<Vec<Step>> {
    let (mut turns, mut clients) = (vec![Vec::new()], 2);
    for step in steps(bytes, step) {
        let turn = turns.last_mut().expect("there is one");
        match step {
            None => turns.push(Vec::new()),
            Some(step) if connects(&step) && clients == CLIENTS_MAX => {}
            Some(step) => {
                clients += usize::from(connects(&step));
                turn.push(step);
            }
        }
    }
    turns
}

fn connects(step: &Step) -> bool {
    use Step::{Connect, ConnectBroadcast, ConnectByMessage, ConnectClassic, ConnectCompressed, ConnectEvents};
    let is_upgrade = matches!(step, Connect | ConnectCompressed(_) | ConnectClassic | ConnectBroadcast);
    is_upgrade || matches!(step, ConnectByMessage { .. } | ConnectEvents(_))
}

/// The next step; `None` ends the turn.
fn step(bytes: &mut Unstructured<'_>) -> Result<Option<Step>> {
    let kind = bytes.int_in_range(0..=23)?;
    Ok(Some(match kind {
        0 => match bytes.int_in_range(0..=4)? {
            0 => Step::Connect,
            1 => Step::ConnectCompressed(15),
            2 => Step::ConnectCompressed(9),
            kind => Step::ConnectByMessage { broadcasts: kind == 3 },
        },
        1 => Step::ConnectClassic,
        2 => match bytes.int_in_range(0..=2_usize)? {
            0 => Step::ConnectBroadcast,
            rooms => Step::ConnectEvents(rooms),
        },
        3 | 4 => Step::Subscribe(bytes.int_in_range(0..=11)?, bytes.int_in_range(0..=3)?),
        5 => Step::Unsubscribe(bytes.int_in_range(0..=11)?, bytes.int_in_range(0..=3)?),
        6 | 7 => Step::Send(bytes.int_in_range(0..=11)?, bytes.int_in_range(0..=3)?, bytes.arbitrary()?),
        8 => Step::Nonsense(bytes.int_in_range(0..=11)?),
        9 => Step::Violate(bytes.int_in_range(0..=11)?),
        10 => Step::Close(bytes.int_in_range(0..=11)?),
        11 => Step::Vanish(bytes.int_in_range(0..=11)?),
        12 => Step::Break(bytes.int_in_range(0..=11)?),
        13 => Step::Take(bytes.int_in_range(0..=11)?, bytes.int_in_range(0..=300)?),
        14 => Step::Take(bytes.int_in_range(0..=11)?, usize::MAX),
        15 => Step::Answer(bytes.int_in_range(1..=4)?),
        16 => Step::Refuse,
        17 => Step::Down,
        18 => Step::Up,
        19 => Step::Wait(bytes.int_in_range(0..=12_000)?),
        20 => Step::Drop(bytes.int_in_range(0..=5)?, bytes.int_in_range(0..=3)?),
        21 => match bytes.arbitrary::<u8>()? {
            ..0x80 => Step::Shutdown,
            _ => Step::Drain,
        },
        22 => match bytes.arbitrary::<u8>()? {
            part @ 0xc0.. => Step::Lose(u16::from(part) % PARTITIONS),
            refuses => Step::RefuseForAWhile(refuses & 1 == 1),
        },
        _ => return Ok(None),
    }))
}
