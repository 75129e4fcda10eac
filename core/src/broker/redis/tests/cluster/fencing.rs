//! A fence in a Cluster: every node that sends messages has to answer.

use super::*;
use crate::broker::{Ask, FenceId};

fn fence(world: &mut World, number: u64) {
    world.broker.ask(Ask::Fence { id: FenceId::new(number) });
}

#[test]
fn a_fence_is_there_when_all_nodes_have_answered() {
    let mut world = World::subscribed();
    fence(&mut world, 7);
    for port in [1, 2] {
        assert_eq!(world.sent(port, Role::Subscriber), [["PING"]]);
    }
    world.hear(2, Role::Subscriber, PONG);
    assert_eq!(world.events(), [""; 0]);
    let message = push(b'>', &["smessage", &channel(0), "m"]);
    world.hear(1, Role::Subscriber, &[&message[..], PONG].concat());
    assert_eq!(world.events(), [format!("message {}: m", room(0)), "fenced 7".to_owned()]);
}

#[test]
fn a_node_that_is_lost_is_not_waited_for() {
    let mut world = World::subscribed();
    fence(&mut world, 7);
    world.hear(2, Role::Subscriber, PONG);
    world.fail(1, Role::Subscriber);
    assert!(world.events().contains(&"fenced 7".to_owned()));
    world.fail(2, Role::Subscriber);
    world.events();
    fence(&mut world, 8);
    assert!(!world.events().contains(&"fenced 8".to_owned()), "the hub has heard that nothing can be had");
}

#[test]
fn of_two_fences_the_later_one_counts() {
    let mut world = World::subscribed();
    fence(&mut world, 7);
    fence(&mut world, 8);
    world.hear(1, Role::Subscriber, PONG);
    world.hear(2, Role::Subscriber, PONG);
    assert_eq!(world.events(), [""; 0]);
    world.hear(1, Role::Subscriber, PONG);
    world.hear(2, Role::Subscriber, PONG);
    assert_eq!(world.events(), ["fenced 8"]);
}
