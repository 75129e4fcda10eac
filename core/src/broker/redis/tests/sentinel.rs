//! Sentinels on scripted bytes: whom they name, and when it is believed.

use super::*;

const GROUP: &str = "mymaster";

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

fn config(sentinels: usize) -> RedisConfig {
    let sentinels = (0..sentinels).map(|index| tcp("sentinel", 26_379 + index as u16)).collect();
    RedisConfig { topology: Topology::Sentinel { sentinels, master: GROUP.to_owned() }, ..RedisConfig::default() }
}

fn sentinel(index: usize) -> LinkId {
    Place::Sentinel(index).link()
}

/// The answers to `SENTINEL MASTER`, as far as anybody looks, and to `GET-MASTER-ADDR-BY-NAME`.
fn master(port: u16, epoch: u64) -> Vec<u8> {
    let (port, epoch) = (port.to_string(), epoch.to_string());
    // The address in the first is the old one for a while.
    let state = push(b'*', &["name", GROUP, "ip", "old", "port", "9", "flags", "master", "config-epoch", &epoch]);
    [state, push(b'*', &["redis", &port])].concat()
}

fn subscribed() -> Vec<u8> {
    b"*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n".to_vec()
}

fn unsubscribed() -> Vec<u8> {
    b"*3\r\n$11\r\nunsubscribe\r\n$14\r\n+switch-master\r\n:0\r\n".to_vec()
}

fn switch(from: u16, to: u16) -> Vec<u8> {
    push(b'*', &["message", "+switch-master", &format!("{GROUP} redis {from} redis {to}")])
}

/// The broker, and what its driver has been asked for.
struct World {
    broker: RedisBroker,
    now: Time,
    events: Vec<String>,
    open: Vec<(LinkId, Address)>,
}

impl World {
    fn new(config: RedisConfig) -> World {
        World { broker: RedisBroker::new(config), now: Time::from_millis(1_000), events: Vec::new(), open: Vec::new() }
    }

    /// All sentinels connected, and asked.
    fn watched(config: RedisConfig) -> World {
        let mut world = World::new(config);
        world.poll();
        let links: Vec<LinkId> = world.open.iter().map(|(link, _)| *link).collect();
        for link in links {
            world.broker.connected(link, world.now);
            let asked = world.sent(link);
            assert_eq!(asked[0], ["SENTINEL", "MASTER", GROUP]);
            assert_eq!(asked[1], ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]);
            assert_eq!(asked[2], ["SUBSCRIBE", "+switch-master"]);
        }
        world.open.clear();
        world
    }

    fn poll(&mut self) {
        while let Some((link, request)) = self.broker.poll_connection(self.now) {
            match request {
                ConnectionRequest::Open { address } => self.open.push((link, address)),
                ConnectionRequest::Drop => self.open.retain(|(open, _)| *open != link),
            }
        }
        let events = &mut self.events;
        self.broker.poll_events(|event| events.push(written(event)));
    }

    fn sent(&mut self, link: LinkId) -> Vec<Vec<String>> {
        let output = self.broker.output(link).to_vec();
        self.broker.written(link, output.len());
        commands(&output)
    }

    fn hear(&mut self, link: LinkId, data: &[u8]) {
        let events = &mut self.events;
        self.broker.input(link, data, self.now, |event| events.push(written(event)));
        self.poll();
    }

    fn say(&mut self, index: usize, port: u16, epoch: u64) {
        self.hear(sentinel(index), &[master(port, epoch), subscribed()].concat());
    }

    /// Lets the clock run.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.broker.next_timeout().filter(|due| *due <= until) {
            assert!(due >= self.now || self.now == Time::from_millis(1_000), "no deadline is left in the past");
            self.now = self.now.max(due);
            self.broker.timeout(self.now);
            self.poll();
        }
        self.now = until;
    }

    fn fail(&mut self, link: LinkId) {
        self.broker.disconnected(link, "refused", self.now);
        self.open.retain(|(open, _)| *open != link);
        self.poll();
    }

    /// Where the session's connections are to lead.
    fn wanted(&self) -> Vec<u16> {
        let ports = self.open.iter().filter(|(link, _)| matches!(link.place(), Place::Session(_)));
        ports.map(|(_, address)| if let Address::Tcp { port, .. } = address { *port } else { 0 }).collect()
    }

    /// The session's connections come up, where they are wanted.
    fn come_up(&mut self) {
        for role in [Role::Subscriber, Role::Publisher] {
            self.broker.connected(link(role), self.now);
            self.sent(link(role));
            self.hear(link(role), &[HELLO_REPLY, MASTER, PONG].concat());
        }
    }

    fn events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }
}

#[test]
fn most_sentinels_have_to_name_the_master_before_anything_is_connected_to() {
    let mut world = World::watched(config(3));
    world.say(0, 1, 5);
    assert!(world.wanted().is_empty());
    world.say(1, 1, 5);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.wanted(), [1, 1]);
    world.come_up();
    assert_eq!(world.events(), ["up", "publisher up"]);
    assert_eq!(world.broker.address(), Some(&tcp("redis", 1)));
}

#[test]
fn one_that_was_cut_off_is_not_believed_beside_those_that_know_better() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::watched(config(3));
        for index in order {
            world.say(index, [1, 2][index], [4, 9][index]);
        }
        world.wait(Duration::from_millis(200));
        assert_eq!(world.wanted(), [2, 2]);
    }
}

#[test]
fn the_only_one_left_is_believed_after_a_while() {
    let mut world = World::watched(config(3));
    world.fail(sentinel(1));
    world.fail(sentinel(2));
    world.say(0, 1, 5);
    assert!(world.wanted().is_empty());
    world.wait(Duration::from_millis(1_200));
    assert_eq!(world.wanted(), [1, 1]);
}

#[test]
fn both_connections_leave_a_demoted_master_at_once() {
    let mut world = World::watched(config(1));
    world.say(0, 1, 5);
    world.wait(Duration::from_millis(200));
    world.come_up();
    world.open.clear();
    world.events();
    world.hear(sentinel(0), &switch(1, 2));
    // It is asked, because only its answer tells the epoch.
    let asked = world.sent(sentinel(0));
    let words: Vec<&str> = asked.iter().map(|words| words[0].as_str()).collect();
    assert_eq!(words, ["UNSUBSCRIBE", "SENTINEL", "SENTINEL", "SUBSCRIBE"]);
    world.hear(sentinel(0), &[unsubscribed(), master(2, 6), subscribed()].concat());
    let events = world.events();
    assert_eq!(events, ["down: the master is redis:2 now", "publisher down: the master is redis:2 now"]);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.wanted(), [2, 2]);
    world.come_up();
    assert_eq!(world.events(), ["up", "publisher up"]);
    assert_eq!(world.broker.stats().switches, 1);
    assert_eq!(world.broker.take_notice().as_deref(), Some("the master is redis:2 now, and was redis:1"));
    assert_eq!(world.broker.take_notice(), None);
}

#[test]
fn an_older_master_is_not_gone_back_to() {
    let mut world = World::watched(config(2));
    world.say(0, 2, 6);
    world.say(1, 2, 6);
    world.wait(Duration::from_millis(200));
    world.come_up();
    world.open.clear();
    world.events();
    world.hear(sentinel(1), &switch(2, 1));
    world.hear(sentinel(1), &[unsubscribed(), master(1, 5), subscribed()].concat());
    world.wait(Duration::from_millis(100));
    assert_eq!((world.wanted(), world.events()), (vec![], vec![]));
    assert_eq!(world.broker.take_notice(), None, "it may learn it yet");
    for seconds in 1..=11 {
        world.now = world.now + Duration::from_secs(1);
        world.hear(sentinel(1), &switch(2, 1));
        if !world.sent(sentinel(1)).is_empty() {
            world.hear(sentinel(1), &[unsubscribed(), master(1, 5), subscribed()].concat());
        }
        let told = world.broker.take_notice();
        assert_eq!(told.is_some_and(|notice| notice.contains("learned later")), seconds == 10, "{seconds} s");
    }
}

#[test]
fn where_all_connections_are_lost_the_sentinels_are_asked_before_the_next() {
    let mut world = World::watched(config(1));
    world.say(0, 1, 5);
    world.wait(Duration::from_millis(200));
    world.come_up();
    world.sent(sentinel(0));
    world.open.clear();
    world.fail(link(Role::Subscriber));
    world.wait(Duration::from_millis(300));
    assert_eq!(world.wanted(), [1], "the other is there still");
    assert_eq!(world.sent(sentinel(0))[1], ["SENTINEL", "MASTER", GROUP]);
    world.hear(sentinel(0), &[unsubscribed(), master(1, 5), subscribed()].concat());
    world.fail(link(Role::Publisher));
    world.fail(link(Role::Subscriber));
    world.open.clear();
    world.wait(Duration::from_millis(500));
    assert!(world.wanted().is_empty());
    assert_eq!(world.sent(sentinel(0))[1], ["SENTINEL", "MASTER", GROUP]);
    // Set up anew behind the last failover, it counts from 0 again.
    world.hear(sentinel(0), &[unsubscribed(), master(3, 0), subscribed()].concat());
    world.wait(Duration::from_millis(200));
    assert_eq!(world.wanted(), [3, 3]);
}

#[test]
fn a_master_that_is_away_is_visited_less_and_less_often() {
    let mut world = World::watched(config(1));
    world.say(0, 1, 5);
    let mut attempts = 0;
    let end = world.now + Duration::from_secs(60);
    while world.now < end {
        world.wait(Duration::from_millis(10));
        for (open, _) in std::mem::take(&mut world.open) {
            attempts += usize::from(open == link(Role::Publisher));
            world.fail(open);
        }
        if !world.sent(sentinel(0)).is_empty() {
            world.hear(sentinel(0), &[unsubscribed(), master(1, 5), subscribed()].concat());
        }
    }
    assert!((12..60).contains(&attempts), "{attempts} attempts in a minute");
}

#[test]
fn a_session_that_lives_needs_no_sentinel() {
    let mut world = World::watched(config(2));
    world.say(0, 1, 5);
    world.say(1, 1, 5);
    world.wait(Duration::from_millis(200));
    world.come_up();
    world.events();
    world.fail(sentinel(0));
    world.fail(sentinel(1));
    world.wait(Duration::from_millis(200));
    assert_eq!(world.events(), [] as [String; 0]);
    assert_eq!(world.broker.stats().publisher.state, LinkState::Up);
}

#[test]
fn who_is_not_reached_or_does_not_know_is_told() {
    let mut world = World::new(config(2));
    world.poll();
    assert_eq!(world.open.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [sentinel(0), sentinel(1)]);
    world.fail(sentinel(0));
    assert_eq!(world.events(), [] as [String; 0]);
    world.fail(sentinel(1));
    let told = "none of its 2 Sentinels answers: refused";
    assert_eq!(world.events(), [format!("down: {told}"), format!("publisher down: {told}")]);

    let mut world = World::watched(config(1));
    world.hear(sentinel(0), &[b"-ERR No such master with that name\r\n*-1\r\n".to_vec(), subscribed()].concat());
    let told = "its Sentinels know no master called mymaster";
    assert_eq!(world.events(), [format!("down: {told}"), format!("publisher down: {told}")]);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.events(), [] as [String; 0], "once");
}

#[test]
fn an_acl_that_allows_the_address_only_is_enough() {
    let mut world = World::watched(config(1));
    let refused = b"-NOPERM this user has no permissions\r\n".to_vec();
    world.hear(sentinel(0), &[refused, push(b'*', &["redis", "1"]), subscribed()].concat());
    world.wait(Duration::from_millis(200));
    assert_eq!(world.wanted(), [1, 1]);
    world.come_up();
    world.events();
    world.hear(sentinel(0), &switch(1, 2));
    assert_eq!(world.events()[0], "down: the master is redis:2 now");
    assert_eq!(world.sent(sentinel(0))[1], ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP]);
}

#[test]
fn who_tells_epochs_is_believed_with_its_epoch_only() {
    let mut world = World::watched(config(3));
    (0..3).for_each(|index| world.say(index, 1, 5));
    world.wait(Duration::from_millis(200));
    world.come_up();
    world.fail(link(Role::Subscriber));
    world.fail(link(Role::Publisher));
    for index in [0, 1] {
        world.sent(sentinel(index));
        world.hear(sentinel(index), &[unsubscribed(), master(3, 7), subscribed()].concat());
    }
    world.wait(Duration::from_millis(200));
    assert_eq!(world.wanted(), [3, 3]);
    world.come_up();
    world.events();
    // It was said before the question that this one has yet to answer.
    world.hear(sentinel(2), &switch(1, 2));
    assert_eq!(world.events(), [] as [String; 0]);
    assert_eq!(world.broker.address(), Some(&tcp("redis", 3)));
}

#[test]
fn where_no_epochs_are_told_whoever_changes_its_mind_is_followed() {
    let named = |port: &str| {
        let refused = b"-NOPERM this user has no permissions\r\n".to_vec();
        [refused, push(b'*', &["redis", port]), subscribed()].concat()
    };
    let mut world = World::watched(config(3));
    (0..3).for_each(|index| world.hear(sentinel(index), &named("1")));
    world.wait(Duration::from_millis(200));
    world.come_up();
    (0..3).for_each(|index| drop(world.sent(sentinel(index))));
    world.wait(Duration::from_secs(6));
    // It has learned of another between two subscriptions, and so told nobody.
    let told = |port: &str| [unsubscribed(), push(b'*', &["redis", port]), subscribed()].concat();
    world.hear(sentinel(0), &told("2"));
    assert_eq!(world.broker.address(), Some(&tcp("redis", 2)));
    world.hear(sentinel(1), &told("1"));
    assert_eq!(world.broker.address(), Some(&tcp("redis", 2)), "it knows no better than before");
}

#[test]
fn sentinels_have_credentials_of_their_own() {
    let sentinel_credentials = RedisConfig {
        sentinel_username: Some("watch".to_owned()),
        sentinel_password: Some("s3ntinel".to_owned()),
        ..config(1)
    };
    let mut world = World::new(sentinel_credentials);
    world.poll();
    world.broker.connected(sentinel(0), world.now);
    assert_eq!(world.sent(sentinel(0))[0], ["AUTH", "watch", "s3ntinel"]);
    world.hear(sentinel(0), b"-WRONGPASS invalid username-password pair\r\n");
    let told = world.events();
    assert!(told[0].contains("its Sentinel does not answer: ") && told[0].contains("WRONGPASS"), "{told:?}");
    assert!(!format!("{:?} {told:?}", world.broker).contains("s3ntinel"));
}

#[test]
fn one_that_hangs_is_left_for_another_attempt() {
    let mut world = World::watched(config(1));
    world.wait(Duration::from_millis(2_000));
    let told = "its Sentinel does not answer: no answer within 2000 ms";
    assert_eq!(world.events()[0], format!("down: {told}"));
    world.wait(Duration::from_millis(200));
    assert_eq!(world.open, [(sentinel(0), tcp("sentinel", 26_379))]);
}

#[test]
fn what_is_no_sentinel_is_told() {
    for (answer, told) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "speaks HTTP"),
        (b"*1\r\n$1\r\nx\r\n*1\r\n$1\r\nx\r\n", "no Sentinel"),
        (b"-ERR unknown command 'SENTINEL'\r\n-ERR unknown command 'SENTINEL'\r\n", "unknown command"),
    ] {
        let mut world = World::watched(config(1));
        world.hear(sentinel(0), answer);
        let events = world.events();
        assert!(events.first().is_some_and(|event| event.contains(told)), "{events:?}");
    }
}
