//! What the hub asks, and which node it is asked of; and what follows from what nodes say.

use super::super::command;
use super::super::history::{self, Room};
use super::super::link_id::Role;
use super::super::presence::Outcome;
use super::super::publisher::{Asked, Detour, PublishAsked, StoreAsked, WaitsFor, Why};
use super::super::redirect::Redirect;
use super::super::session::News;
use super::super::subscriber::Operation;
use super::node::Node;
use super::routes::Routes;
use super::waiting::{Verdict, Waits};
use super::{Cluster, Layout, SUBSCRIBE_BATCH};
use crate::broker::{Ask, BrokerEvent, FenceId, Partitions, PublishError, PublishId, ReadId, Store, partition_of};
use crate::history::{Query, Retention};
use crate::time::Time;
use std::collections::BTreeSet;
use std::time::Duration;

/// What could not be done because the keys of a room are at two nodes is tried again after so long.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Where something goes.
enum Way {
    /// To the node at this place.
    To(usize),
    /// It waits, behind something that was sent to another node or not.
    Waits { was_sent: bool },
    /// Nowhere.
    None,
}

/// Whether a node that had a partition before has yet to answer something that was published to it. That may have to go to the node at this
/// place, and what is published later has to stay behind it.
fn is_asked_elsewhere(
    routes: &mut Routes,
    nodes: &[Option<Node>],
    (partition, role): (u16, Role),
    place: usize,
) -> bool {
    if !routes.is_fresh(partition) {
        return false;
    }
    let others = || nodes.iter().enumerate().filter(|(other, _)| *other != place).filter_map(|(_, node)| node.as_ref());
    let has = |role| others().any(|node| node.session.is_asked_of(role, partition));
    let (first, second) = (has(Role::Publisher), has(Role::DurablePublisher));
    if !first && !second {
        routes.has_settled(partition);
    }
    if role == Role::DurablePublisher { second } else { first }
}

impl Cluster {
    pub(in super::super) fn ask(&mut self, ask: Ask<'_>) {
        match ask {
            Ask::Subscribe { room } => self.subscribe(room),
            Ask::Unsubscribe { room } => self.unsubscribe(room),
            Ask::Publish { room, payload, store: None, replicas_min, id } => {
                self.publish(room, payload, replicas_min, id);
            }
            Ask::Publish { room, payload, store: Some(store), replicas_min, id } => {
                self.store(room, payload, &store, replicas_min, id);
            }
            Ask::Read { room, query, retention, id } => self.read(room, query, retention, id),
            ask @ (Ask::Present { .. } | Ask::Roster { .. }) => self.ask_presence(&ask),
            Ask::Fence { id } => self.fence(id),
        }
    }

    /// Asks all nodes that send messages.
    fn fence(&mut self, id: FenceId) {
        if !self.is_up {
            return;
        }
        let mut asked = BTreeSet::new();
        let nodes = self.nodes.iter_mut().enumerate();
        for (place, node) in nodes.filter_map(|(place, node)| Some((place, node.as_mut()?))) {
            if node.is_subscriber_up {
                node.session.fence(id);
                asked.insert(place);
            }
        }
        self.fencing.begin(id, asked);
        self.tell_fence();
    }

    fn tell_fence(&mut self) {
        if let Some(id) = self.fencing.take() {
            self.events.fenced(id);
        }
    }

    pub(in super::super) fn subscribe(&mut self, room: &str) {
        self.operate(Operation::Subscribe, room);
    }

    pub(in super::super) fn unsubscribe(&mut self, room: &str) {
        self.operate(Operation::Unsubscribe, room);
    }

    fn operate(&mut self, operation: Operation, room: &str) {
        if !self.is_up {
            return;
        }
        let partition = partition_of(room, self.partitions);
        let place = self.place_to_subscribe(partition);
        let is_behind = self.unsent.contains_key(&partition);
        match place.filter(|_| !is_behind).and_then(|place| self.node_mut(place)) {
            Some(node) => node.session.operate(operation, room),
            None => self.unsent.entry(partition).or_default().push((operation, room.into())),
        }
    }

    /// The node that takes subscriptions to a partition now.
    fn place_to_subscribe(&self, partition: u16) -> Option<usize> {
        let place = self.subscribed_at(partition).filter(|_| self.routes.subscribed_from(partition) <= self.now)?;
        self.node(place).filter(|node| node.is_subscriber_up).map(|_| place)
    }

    /// The node that takes publishes to a partition now.
    pub(super) fn place_to_publish(&self, partition: u16, role: Role) -> Option<usize> {
        let place = self.routes.node(partition).filter(|_| self.routes.ready_at(partition) <= self.now)?;
        self.node(place).filter(|node| node.session.is_up(role)).map(|_| place)
    }

    fn way(&mut self, partition: u16, role: Role, bytes_more: usize) -> Result<Way, PublishError> {
        if self.layout != Layout::Agreed {
            return Ok(Way::None);
        }
        let is_behind = self.waiting.has(partition);
        let mut was_sent = false;
        if let Some(place) = self.place_to_publish(partition, role).filter(|_| !is_behind) {
            was_sent = is_asked_elsewhere(&mut self.routes, &self.nodes, (partition, role), place);
            if !was_sent {
                return Ok(Way::To(place));
            }
        }
        if !is_behind && !was_sent && self.config.publish_wait.is_zero() && self.routes.ready_at(partition) <= self.now
        {
            return Ok(Way::None);
        }
        let fits = self.waiting.len() < self.config.publishes_in_flight_max
            && self.waiting.bytes() + bytes_more <= self.config.buffer_bytes_max;
        if fits { Ok(Way::Waits { was_sent }) } else { Err(PublishError::Busy) }
    }

    pub(in super::super) fn publish(&mut self, room: &str, payload: &[u8], replicas_min: u16, id: Option<PublishId>) {
        let (partition, role) = (partition_of(room, self.partitions), Role::that_publishes(replicas_min));
        match self.way(partition, role, payload.len()) {
            Ok(Way::To(place)) => {
                if let Some(node) = self.node_mut(place) {
                    node.session.publish_over(role, room, payload, id);
                }
            }
            Ok(Way::Waits { was_sent }) => {
                let mut bytes = Vec::new();
                command::publish(&mut bytes, &self.config.names(), room, payload);
                let asked = Asked::Publish(PublishAsked::new(room, id, &self.config));
                self.wait((role, asked, partition), bytes, was_sent);
            }
            Ok(Way::None) => self.fail(id, PublishError::Unavailable),
            Err(error) => self.fail(id, error),
        }
    }

    pub(in super::super) fn store(
        &mut self,
        room: &str,
        payload: &[u8],
        store: &Store<'_>,
        replicas_min: u16,
        id: Option<PublishId>,
    ) {
        let (partition, role) = (partition_of(room, self.partitions), Role::that_publishes(replicas_min));
        match self.way(partition, role, payload.len()) {
            Ok(Way::To(place)) => {
                if let Some(node) = self.node_mut(place) {
                    node.session.store(room, payload, store, replicas_min, id);
                }
            }
            Ok(Way::Waits { was_sent }) => {
                let mut bytes = Vec::new();
                self.drawn += 1;
                let drawn = history::draw(self.config.seed, self.drawn, room);
                let of = Room::new(room, *store.retention, &self.config);
                history::store_or_remove(&mut bytes, &of, drawn, store, payload);
                let asked = Asked::Store(StoreAsked::new(room, id, replicas_min, &self.config));
                self.wait((role, asked, partition), bytes, was_sent);
            }
            Ok(Way::None) => self.fail(id, PublishError::Unavailable),
            Err(error) => self.fail(id, error),
        }
    }

    pub(in super::super) fn read(&mut self, room: &str, query: Query, retention: Retention, id: ReadId) {
        let partition = partition_of(room, self.partitions);
        let place = self.place_to_publish(partition, Role::Publisher).filter(|_| self.layout == Layout::Agreed);
        match place.and_then(|place| self.node_mut(place)) {
            Some(node) => node.session.read(room, query, retention, id),
            None => self.events.read_failed(id, true),
        }
    }

    fn wait(&mut self, (role, asked, partition): (Role, Asked, u16), bytes: Vec<u8>, was_sent: bool) {
        let now = self.now;
        let was_sent = was_sent || self.waiting.has(partition) || self.routes.ready_at(partition) > now;
        self.waiting.push(Waits {
            role,
            asked,
            partition,
            since: now,
            bytes: bytes.into(),
            asking: None,
            again_at: now,
            was_sent,
        });
    }

    fn fail(&mut self, id: Option<PublishId>, error: PublishError) {
        match id {
            Some(id) => self.events.publish_failed(id, error),
            None => self.dropped += 1,
        }
    }

    /// Answers what has waited for as long as it may.
    pub(super) fn expire(&mut self) {
        let expired = self.waiting.expire(self.now, self.config.publish_wait);
        self.give_up(expired);
    }

    pub(super) fn give_up(&mut self, given_up: Vec<Waits>) {
        for waits in given_up {
            match waits.asked.waits_for() {
                WaitsFor::Publish(id) => self.fail(id, PublishError::Unavailable),
                WaitsFor::Read(id) => self.events.read_failed(id, true),
                WaitsFor::Presence(asked) => self.presence_answered(asked, Outcome::Failed { passes: true }),
            }
        }
    }

    /// Looks at what the sessions have learned, does what follows from it, and tells the hub.
    pub(super) fn settle_with(&mut self, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        for place in 0..self.nodes.len() {
            let Some(node) = self.node_mut(place) else { continue };
            node.poll_events(&mut *sink);
            self.hear(place);
        }
        self.choose_home();
        self.serve_keeper();
        self.send_waiting();
        self.send_subscriptions();
        self.tell();
        self.events.drain(sink);
    }

    /// What one session has learned.
    fn hear(&mut self, place: usize) {
        let Some(node) = self.node_mut(place) else { return };
        let (was_lost, is_news, came_up) = (node.take_loss(), node.take_is_news(), node.take_came_up());
        let fenced = node.take_fenced();
        let (news, detours, announcements) =
            (node.session.take_news(), node.session.take_detours(), node.session.take_announcements());
        self.is_news |= is_news;
        self.fencing.hear(place, fenced, was_lost);
        self.tell_fence();
        if is_news {
            self.node_has_changed(place, was_lost, came_up);
        }
        let heard = self.node_mut(place).map(|node| node.session.take_heard()).unwrap_or_default();
        self.hear_of_presence(place, heard);
        for news in news {
            match news {
                News::Gone(partition) => {
                    if let Some(node) = self.node_mut(place) {
                        node.left.remove(partition);
                    }
                    // One channel after the other is let go of.
                    let is_news = self.routes.subscribed_from(partition) <= self.now;
                    if self.routes.node(partition) == Some(place) && is_news {
                        let mut gone = Partitions::none_of(self.partitions);
                        gone.insert(partition);
                        if let Some(node) = self.node_mut(place) {
                            node.session.forget(|room| gone.has_room(room));
                        }
                        self.move_canary_from(partition, place);
                        self.lose(&[partition]);
                        self.routes.doubt(partition, self.now);
                        self.scout.hurry(self.now);
                    }
                }
                News::CanaryGone(slot) => {
                    for partition in self.routes.in_slot(slot) {
                        self.move_canary_from(partition, place);
                    }
                }
                News::Moved { slot, to } => {
                    let to = self.node(place).and_then(|node| to.seen_from(&node.address));
                    self.moved(slot, place, to.as_ref());
                }
                News::Layout(layout) => self.have_agreed(layout),
                News::LayoutPutOff => {
                    if self.layout != Layout::Agreed {
                        (self.layout, self.layout_at, self.is_news) = (Layout::PutOff, self.now, true);
                    }
                }
            }
        }
        for (role, detour) in detours {
            self.send_on(place, role, detour);
        }
        for (partition, command) in announcements {
            if let Some(node) = self.routes.node(partition).and_then(|place| self.node_mut(place)) {
                node.session.announce(&command);
            }
        }
    }

    /// A node has come, gone, or changed its mind.
    fn node_has_changed(&mut self, place: usize, was_lost: bool, came_up: bool) {
        let partitions = self.partitions;
        if was_lost {
            if let Some(node) = self.node_mut(place) {
                node.left = Partitions::none_of(partitions);
            }
            let here: Vec<u16> =
                self.routes.partitions().filter(|partition| self.subscribed_at(*partition) == Some(place)).collect();
            self.lose(&here);
        }
        let Some(node) = self.node(place) else { return };
        let (is_subscriber_up, is_publisher_up) = (node.is_subscriber_up, node.is_publisher_up);
        if !is_subscriber_up || !is_publisher_up {
            self.scout.hurry(self.now);
            if self.layout == Layout::Asked && self.routes.node(0) == Some(place) && !is_publisher_up {
                self.layout = Layout::Unknown;
            }
        }
        // Data may have been lost, and with them what was agreed on.
        let is_back = came_up && self.layout == Layout::Agreed && self.routes.node(0) == Some(place);
        if self.layout == Layout::Unknown || is_back {
            self.ask_layout();
        }
    }

    /// Has the node of the first partition say what the instances have agreed on.
    pub(super) fn ask_layout(&mut self) {
        let layout = self.config.names().layout();
        let place = self.routes.node(0);
        // It may be lost, of which nobody has heard yet.
        let is_there = |node: &&mut super::Node| node.is_publisher_up && node.session.is_up(Role::Publisher);
        if let Some(node) = place.and_then(|place| self.node_mut(place)).filter(is_there) {
            node.session.ask_layout(&layout);
            if self.layout == Layout::Unknown {
                self.layout = Layout::Asked;
            }
        }
    }

    /// What the instances have agreed on is elsewhere now: whoever was asked for it may have said just that.
    pub(super) fn layout_has_moved(&mut self) {
        if matches!(self.layout, Layout::Unknown | Layout::Asked | Layout::PutOff) {
            self.layout = Layout::Unknown;
            self.ask_layout();
        }
    }

    fn have_agreed(&mut self, layout: Result<String, String>) {
        let ours = self.config.names().layout();
        self.is_news = true;
        self.layout_at = self.now;
        if let Some(keeper) = &mut self.keeper {
            // Nobody could be asked before.
            keeper.hurry(self.now);
        }
        self.layout = match layout {
            Ok(theirs) if theirs == ours => Layout::Agreed,
            Ok(theirs) => Layout::Differs(format!(
                "rooms are parted otherwise here: into `{ours}`, and by the first instance of this Cluster and prefix into `{theirs}` \
                 (redis.cluster_partitions and redis.cluster_pubsub, or the key {:?} of Redis)",
                self.config.names().layout_key()
            )),
            // Who may not ask has to be configured as the others are.
            Err(_) if self.layout == Layout::Agreed => Layout::Agreed,
            Err(why) => {
                self.notice = Some(format!("whether other instances part rooms in the same way is not known: {why}"));
                Layout::Agreed
            }
        };
    }

    /// What a node did not do goes where it has to.
    fn send_on(&mut self, place: usize, role: Role, Detour { asked, since, bytes, why }: Detour) {
        let Some(partition) = asked.partition() else {
            // It is about this node, and nothing stands in front of it any more.
            if let Some(node) = self.node_mut(place).filter(|node| node.session.is_up(role) && asked != Asked::Asking) {
                node.session.send(role, asked, since, &bytes, false);
            }
            return;
        };
        let is_behind = self.waiting.has(partition);
        let was_sent = is_behind || !matches!(why, Why::Behind | Why::Redirected(Redirect::Down));
        let address = self.node(place).map(|node| node.address.clone());
        let seen = |to: &super::super::redirect::NodeName| address.as_ref().and_then(|address| to.seen_from(address));
        let mut waits = Waits { role, asked, partition, since, bytes, asking: None, again_at: self.now, was_sent };
        match &why {
            Why::Redirected(Redirect::Moved { slot, to }) => self.moved(*slot, place, seen(to).as_ref()),
            Why::Redirected(Redirect::Ask { to }) => waits.asking = seen(to).and_then(|to| self.place_of(&to)),
            Why::Redirected(Redirect::TryAgain | Redirect::Down) => waits.again_at = self.now + AGAIN_AFTER,
            Why::NoScript | Why::Behind => {}
        }
        if since == Time::ZERO {
            // Of a read nobody has noted it.
            waits.since = self.now;
        }
        self.waiting.push(waits);
    }

    /// Sends what waits and can be sent.
    fn send_waiting(&mut self) {
        if self.waiting.len() == 0 {
            return;
        }
        let Cluster { waiting, nodes, routes, now, .. } = self;
        waiting.pump(*now, |waits| {
            let is_ready = routes.ready_at(waits.partition) <= *now;
            let place = waits.asking.or_else(|| routes.node(waits.partition).filter(|_| is_ready));
            let of = (waits.partition, waits.role);
            let place = place.filter(|place| waits.asking.is_some() || !is_asked_elsewhere(routes, nodes, of, *place));
            let node = place.and_then(|place| nodes.get_mut(place)?.as_mut());
            match node.filter(|node| node.session.is_up(waits.role)) {
                Some(node) => {
                    node.used_at = *now;
                    node.session.send(waits.role, waits.asked, waits.since, &waits.bytes, waits.asking.is_some());
                    Verdict::Sent
                }
                None => Verdict::Waits(waits),
            }
        });
    }

    /// Asks for so many rooms as may be asked for at a time.
    fn send_subscriptions(&mut self) {
        for place in 0..self.nodes.len() {
            let is_due = self.canary_due_at(place).is_some_and(|at| at <= self.now);
            if let Some(node) = self.node_mut(place).filter(|_| is_due) {
                node.is_canary_due = false;
                node.session.ask_canary();
            }
        }
        let mut left = SUBSCRIBE_BATCH;
        let mut unsent = std::mem::take(&mut self.unsent);
        unsent.retain(|partition, asks| {
            let place = self.place_to_subscribe(*partition).filter(|_| left > 0);
            if let Some(node) = place.and_then(|place| self.node_mut(place)) {
                let count = asks.len().min(left);
                left -= count;
                asks.drain(..count).for_each(|(operation, room)| node.session.operate(operation, &room));
                asks.shrink_to(SUBSCRIBE_BATCH);
            }
            !asks.is_empty()
        });
        self.unsent = unsent;
    }

    /// When a node's canary can have its channel, if it has none.
    fn canary_due_at(&self, place: usize) -> Option<Time> {
        let node = self.node(place).filter(|node| node.is_canary_due)?;
        let partition = partition_of(node.session.canary_name(), self.partitions);
        (self.routes.node(partition) == Some(place)).then(|| self.routes.subscribed_from(partition).max(self.now))
    }

    /// When more can be asked for.
    pub(super) fn next_subscription(&self) -> Option<Time> {
        let canaries = (0..self.nodes.len()).filter_map(|place| self.canary_due_at(place));
        self.unsent
            .keys()
            .filter_map(|&partition| {
                let place = self.subscribed_at(partition)?;
                let ready_at = self.routes.subscribed_from(partition);
                self.node(place).filter(|node| node.is_subscriber_up).map(|_| ready_at.max(self.now))
            })
            .chain(canaries)
            .min()
    }

    /// Where each node passes on what is published at any, one of them is as good as another.
    fn choose_home(&mut self) {
        if self.is_sharded() {
            return;
        }
        let is_good = |place: usize| {
            self.node(place).is_some_and(|node| node.is_subscriber_up && !node.is_leaving)
                && self.routes.count(place) > 0
        };
        if self.home.is_some_and(is_good) {
            return;
        }
        let next = (0..self.nodes.len()).find(|place| is_good(*place));
        let before = std::mem::replace(&mut self.home, next);
        if let Some(before) = before {
            let now = self.now;
            if let Some(node) = self.node_mut(before) {
                node.session.forget(|_| true);
                // It would go on to tell of all rooms.
                node.session.subscribe_anew("it has no slot of ours any more", now);
            }
            let all: Vec<u16> = self.routes.partitions().collect();
            self.lose(&all);
        }
        self.is_news = true;
    }

    /// Tells the hub how the Cluster stands, if that has changed.
    fn tell(&mut self) {
        if !std::mem::take(&mut self.is_news) && self.lost.is_empty() {
            return;
        }
        let is_agreed = self.layout == Layout::Agreed;
        let has = |is: fn(&super::Node) -> bool| self.nodes().any(|(_, node)| !node.is_leaving && is(node));
        let trouble = self.trouble();
        // At first, those that have yet to connect are waited for, unless it is told already that one is away.
        let is_whole = self.is_up || trouble.is_some() || self.is_whole();
        let is_up = is_agreed && is_whole && has(|node| node.is_subscriber_up);
        let is_publisher_up = is_agreed && is_whole && has(|node| node.is_publisher_up);
        let reason = || format!("Redis: {}", trouble.as_deref().unwrap_or("not connected yet"));
        if is_up != self.is_up || !is_up && self.told.as_deref() != trouble.as_deref() {
            self.is_up = is_up;
            match is_up {
                true => self.events.up(),
                false => {
                    self.events.down(reason());
                    self.unsent.clear();
                    self.nodes.iter_mut().flatten().for_each(|node| node.session.forget(|_| true));
                }
            }
            self.lost = Partitions::none_of(self.partitions);
        } else if !self.lost.is_empty() {
            let lost = std::mem::replace(&mut self.lost, Partitions::none_of(self.partitions));
            self.events.lost(lost);
        }
        if is_publisher_up != self.is_publisher_up
            || !is_publisher_up && self.told_publisher.as_deref() != trouble.as_deref()
        {
            self.is_publisher_up = is_publisher_up;
            self.told_publisher.clone_from(&trouble);
            match is_publisher_up {
                true => self.events.publisher_up(),
                false => self.events.publisher_down(reason()),
            }
        }
        if trouble != self.told {
            match &trouble {
                Some(_) => self.events.refusing(reason()),
                None => self.events.willing(),
            }
            self.told = trouble;
        }
    }

    /// Whether each node that has partitions is connected.
    fn is_whole(&self) -> bool {
        let is_there = |node: &super::Node| node.is_subscriber_up && node.is_publisher_up;
        self.nodes().filter(|(place, _)| self.routes.count(*place) > 0).all(|(_, node)| is_there(node))
    }

    /// What is amiss, for people.
    fn trouble(&self) -> Option<String> {
        if let Layout::Differs(why) = &self.layout {
            return Some(why.clone());
        }
        let count = |place: usize| self.routes.count(place);
        let total = self.partitions;
        let without = self.routes.partitions().filter(|partition| self.routes.node(*partition).is_none()).count();
        if without == usize::from(total) {
            return self.scout.trouble();
        }
        let mut troubled = self.nodes().filter(|(place, _)| count(*place) > 0).filter_map(|(place, node)| {
            let why = node.trouble(self.now)?;
            Some((node, count(place), why))
        });
        let first = troubled.next();
        let others = troubled.count();
        let of_nodes = first.map(|(node, count, why)| {
            let others = match others {
                0 => String::new(),
                others => format!("; and {others} more of its masters"),
            };
            format!("{}, which has {count} of {total} partitions: {why}{others}", node.address)
        });
        let no_master = (without > 0).then(|| format!("{without} of {total} partitions have no master"));
        let put_off = (self.layout == Layout::PutOff)
            .then(|| "the master of the first partition cannot say yet how instances part rooms".to_owned());
        // While it is, nodes carry messages and store none, so that canaries are heard.
        let is_down =
            self.scout.is_down().then(|| "its nodes say that the Cluster is down (cluster_state:fail)".to_owned());
        of_nodes.or(no_master).or(is_down).or(put_off)
    }
}
