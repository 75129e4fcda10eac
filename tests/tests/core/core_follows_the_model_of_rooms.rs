//! Whatever clients, sockets, time and the broker do, and in whatever order: every client is sent, room by room, exactly what
//! the reference model says, and once things are quiet the broker's subscriptions are the rooms that have members.

use fanfare_tests::model::{Bounds, PARTITIONS, Step, World};
use proptest::prelude::*;

/// What clients and the broker do.
fn step() -> impl Strategy<Value = Step> {
    let (client, room) = (0..6usize, 0..4usize);
    prop_oneof![
        2 => Just(Step::Connect),
        2 => (9..=15u8).prop_map(Step::ConnectCompressed),
        1 => Just(Step::ConnectClassic),
        1 => Just(Step::ConnectBroadcast),
        1 => (1..=2usize).prop_map(Step::ConnectEvents),
        2 => any::<bool>().prop_map(|broadcasts| Step::ConnectByMessage { broadcasts }),
        6 => (client.clone(), room.clone()).prop_map(|(client, room)| Step::Subscribe(client, room)),
        3 => (client.clone(), room.clone()).prop_map(|(client, room)| Step::Unsubscribe(client, room)),
        6 => (client.clone(), room, any::<bool>()).prop_map(|(client, room, echo)| Step::Send(client, room, echo)),
        8 => (1..4usize).prop_map(Step::Answer),
        1 => client.clone().prop_map(Step::Close),
        1 => client.clone().prop_map(Step::Vanish),
        1 => client.clone().prop_map(Step::Violate),
        2 => client.clone().prop_map(Step::Nonsense),
        1 => client.prop_map(Step::Break),
        2 => Just(Step::Refuse),
        1 => any::<bool>().prop_map(Step::RefuseForAWhile),
        1 => Just(Step::Down),
        1 => (0..PARTITIONS).prop_map(Step::Lose),
        2 => Just(Step::Up),
        2 => prop_oneof![4 => 0..700u64, 1 => 0..12_000u64].prop_map(Step::Wait),
        2 => (0..6usize, 0..4usize).prop_map(|(actions, targets)| Step::Drop(actions, targets)),
    ]
}

/// What sockets do as well.
fn step_with_short_writes() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => step(),
        1 => (0..6usize, prop_oneof![0..300usize, Just(usize::MAX)]).prop_map(|(client, bytes)| Step::Take(client, bytes)),
    ]
}

/// In one run of four the server is told to stop on the way, in the midst of a turn, and in one of four to let everybody go: little happens
/// after it.
fn turns(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let turns = prop::collection::vec(prop::collection::vec(step, 1..16), 1..40);
    let place = || prop::option::weighted(0.25, any::<[prop::sample::Index; 2]>());
    (turns, place(), place()).prop_map(|(mut turns, drain, shutdown)| {
        for (place, step) in [(drain, Step::Drain), (shutdown, Step::Shutdown)] {
            if let Some([turn, at]) = place {
                let turn = turn.get_mut(&mut turns);
                turn.insert(at.index(turn.len()), step);
            }
        }
        turns
    })
}

/// How much goes into a turn: mostly so little that what rooms have to say takes several.
fn bounds(outbox_bytes_max: usize, outbox_total_bytes_max: usize) -> impl Strategy<Value = Bounds> {
    let (usual, outboxes) =
        (Bounds::default(), Bounds { outbox_bytes_max, outbox_total_bytes_max, ..Bounds::default() });
    (
        prop_oneof![3 => 1..4usize, 1 => Just(usual.members_per_turn_max)],
        prop_oneof![3 => 1..4u16, 1 => Just(usual.group_members_max)],
    )
        .prop_map(move |(members_per_turn_max, group_members_max)| Bounds {
            members_per_turn_max,
            group_members_max,
            ..outboxes
        })
}

/// Two clients that are there from the start make more of the random steps meaningful.
fn run(mut world: World, turns: &[Vec<Step>]) -> Vec<u8> {
    world.apply(&[Step::Connect, Step::Connect]);
    for steps in turns {
        world.apply(steps);
    }
    world.heal();
    world.log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn rooms_and_subscriptions_follow_the_model(turns in turns(step()), bounds in bounds(1 << 20, 1 << 26)) {
        run(World::new(bounds), &turns);
    }

    #[test]
    fn frames_stay_whole_and_in_order_under_any_pattern_of_short_writes(
        turns in turns(step_with_short_writes()),
        bounds in bounds(1 << 20, 1 << 26),
    ) {
        run(World::new(bounds), &turns);
    }

    #[test]
    fn readers_over_the_limit_are_closed_between_frames(
        turns in turns(step_with_short_writes()),
        bounds in bounds(400, 1 << 26),
    ) {
        run(World::new(bounds), &turns);
    }

    #[test]
    fn all_together_stay_within_their_budget(
        turns in turns(step_with_short_writes()),
        bounds in bounds(800, 1_000),
    ) {
        run(World::new(bounds), &turns);
    }

    #[test]
    fn the_same_events_give_the_same_actions(
        turns in turns(step_with_short_writes()),
        bounds in bounds(400, 1 << 26),
    ) {
        prop_assert_eq!(run(World::new(bounds), &turns), run(World::new(bounds), &turns));
    }
}
