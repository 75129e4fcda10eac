//! The core's counters and gauges: plain numbers, copied out as a whole.

use std::time::Duration;

/// A snapshot of what a core has done since it began, and what it holds now. Fields ending in `_now` are gauges,
/// all others only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Open WebSocket connections.
    pub connections_now: u64,
    /// Connections that have not finished their request head.
    pub pending_upgrades_now: u64,
    /// Upgrades answered with 101, and WebSockets taken by [`Turn::open_websocket`](crate::Turn::open_websocket); those that it
    /// refuses are counted below, as if they had been answered here.
    pub upgrades_accepted: u64,
    /// Upgrades answered with 503 because the connection limit was reached.
    pub upgrades_refused_full: u64,
    /// Upgrades answered with 503 because the server is shutting down.
    pub upgrades_refused_draining: u64,
    /// Open event streams. They count as connections, too.
    pub event_streams_now: u64,
    /// 1 while the server is about to stop, after [`Event::Drain`](crate::Event::Drain) or [`Event::Shutdown`](crate::Event::Shutdown).
    pub draining_now: u64,
    /// Open WebSocket connections that have to go, because the server stops or sheds.
    pub departing_now: u64,
    /// Clients that were told by `DRAIN` when to go.
    pub drains_told: u64,
    /// Connections closed with 1012 because the server stops or sheds. The others that had to go went by themselves.
    pub drain_closes: u64,
    /// Open WebSocket connections that agreed upon compression.
    pub compressed_connections_now: u64,
    /// Bytes of messages to clients before they were compressed. Each is counted as often as it was compressed: once for a
    /// room, however many get it, if all have the same dialect and window.
    pub compression_bytes_in: u64,
    /// Bytes of the same messages after it. What did not shrink counts as it was.
    pub compression_bytes_out: u64,
    /// Requests answered with 400, 405, 426, 431 or 505, and upgrades at an unknown path.
    pub upgrades_invalid: u64,
    /// Request heads not finished in time.
    pub upgrades_timed_out: u64,
    /// Upgrades answered with 403 because of their origin.
    pub upgrades_refused_origin: u64,
    /// Connections answered with 429 because of their address.
    pub upgrades_refused_address: u64,
    /// Upgrades answered with 429 because of their user.
    pub upgrades_refused_user: u64,
    /// Connections answered with 503 before their request was whole, because too many were pending.
    pub upgrades_evicted: u64,
    /// Subscriptions of rooms that the broker refused for good.
    pub subscriptions_refused: u64,
    /// Plain HTTP requests answered (page, health, readiness, not found).
    pub http_requests: u64,
    /// Rooms with at least one member.
    pub rooms_now: u64,
    /// Users in rooms with presence, each as often as it is in one, by connections of this instance; also those that were a moment ago.
    pub presence_users_now: u64,
    /// Rooms of which this instance knows who is there.
    pub presence_rooms_observed_now: u64,
    /// Changes of presence that were heard of the broker.
    pub presence_changes: u64,
    /// Users that have been announced to those who observe their room, as having joined or left.
    pub presence_announced: u64,
    /// What the broker was told or asked of presence and did not take; it is told again.
    pub presence_failed: u64,
    /// Rooms that the broker has yet to confirm again after an outage; while rooms come and go meanwhile, about so many.
    pub rooms_returning_now: u64,
    /// Pairs of room and member.
    pub memberships_now: u64,
    /// Text frames understood as commands.
    pub commands: u64,
    /// Commands refused: answered with `ERROR` where the dialect has replies.
    pub command_errors: u64,
    /// Messages of clients that somebody was asked about before they were published.
    pub proposals: u64,
    /// Those that were refused.
    pub proposals_refused: u64,
    /// Those about which nobody has decided, and that were refused because of that.
    pub proposals_undecided: u64,
    /// Messages that were refused because too many waited for a decision.
    pub proposals_busy: u64,
    /// Messages that wait for a decision.
    pub proposals_waiting_now: u64,
    /// Messages taken from clients and handed to the broker.
    pub messages_in: u64,
    /// Messages of rooms with members that the broker delivered to this instance.
    pub messages_out: u64,
    /// Messages of the broker, for rooms with members, that were dropped because they are not UTF-8.
    pub messages_not_utf8: u64,
    /// The same, because an instance of another version has published them.
    pub messages_of_other_versions: u64,
    /// The same, because they pretend to be an instance's: no instance writes such a header, or such a text in this room. Also
    /// those that were not given to members who get messages bare, because the message is no JSON.
    pub messages_forged: u64,
    /// Messages handed to a member, each member counted.
    pub deliveries: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes of frames and responses addressed to clients.
    pub bytes_out: u64,
    /// Bytes addressed to clients that their sockets have not taken yet, each client counted.
    pub unsent_bytes_now: u64,
    /// Bytes of the shared frames kept for clients that lag.
    pub stored_frame_bytes_now: u64,
    /// Connections closed with 4008 because they read too slowly.
    pub slow_closes: u64,
    /// Connections closed because no sign of life came after a ping.
    pub heartbeat_closes: u64,
    /// Connections closed for a violation of the WebSocket protocol.
    pub protocol_closes: u64,
    /// Messages beyond a connection's rate: refused, or the connection closed for it.
    pub limited_messages: u64,
    /// Reads beyond a connection's rate of bytes, or what they made of work, for which it was closed.
    pub limited_bytes: u64,
    /// Pings and pongs beyond a connection's rate, for which it was closed.
    pub limited_pings: u64,
    /// Messages beyond a connection's rate of deliveries: refused, or the connection closed for it.
    pub limited_deliveries: u64,
    /// Bytes held of messages that are not whole yet.
    pub unfinished_bytes_now: u64,
    /// Connections closed with 4008 because a message did not become whole, in time or within the memory for all.
    pub unfinished_closes: u64,
    /// Connections closed with 4029 because they sent too fast.
    pub rate_closes: u64,
    /// Connections closed with 4001, 4501 or 4503: a credential is missing, has expired or is banned, or something was not allowed.
    pub auth_closes: u64,
    /// Connections that the program has ended.
    pub program_closes: u64,
    /// Credentials that were accepted, also those that were asked about again.
    pub auth_accepted: u64,
    /// Credentials that were refused.
    pub auth_refused: u64,
    /// Credentials of which it could not be found out whether they are good.
    pub auth_unavailable: u64,
    /// Credentials that somebody looks at.
    pub auth_waiting_now: u64,
    /// Credentials that are to be looked at again, and wait until others have been.
    pub auth_rechecks_deferred_now: u64,
    /// Upgrades answered with 401 or 403, or with 503 because a credential could not be verified.
    pub upgrades_refused_auth: u64,
    /// Commands, and rooms in URLs, that were refused because the user may not.
    pub permissions_denied: u64,
    /// Memberships that were refused because the room had as many members as its rule allows.
    pub members_refused: u64,
    /// Credentials that were good and were refused because their user had as many connections as allowed: of upgrades and of `AUTH`.
    pub quota_connections_refused: u64,
    /// Memberships that were refused because the user's connections were in as many rooms as allowed.
    pub quota_rooms_refused: u64,
    /// Messages beyond a user's rate: refused, or the connection closed for it.
    pub quota_messages_refused: u64,
    /// Memberships that ended because the user may no longer have them.
    pub permissions_withdrawn: u64,
    /// Users with at least one connection.
    pub users_now: u64,
    /// Publishes confirmed to a client with `ACK`.
    pub publishes_confirmed: u64,
    /// Publishes that wait for a `SUBSCRIBE` of their own connection to be confirmed.
    pub publishes_deferred_now: u64,
    /// Bytes of messages that rooms with history keep in memory.
    pub history_bytes_now: u64,
    /// Members that have yet to be given what their rooms have said before.
    pub members_behind_now: u64,
    /// How often a slow member was left behind, to be given later what it did not take.
    pub members_fallen_behind: u64,
    /// Messages said again to members that came back.
    pub messages_replayed: u64,
    /// How often a message of a room with history did not follow the one before, so that what was missing was read.
    pub history_repairs: u64,
    /// Messages of other programs for rooms whose messages are stored. These are not, because who publishes without the script stores nothing.
    pub history_foreign: u64,
    /// How often members of a room were told that they had missed some of its messages.
    pub gaps: u64,
    /// Publishes answered to a client with `ERROR`.
    pub publishes_failed: u64,
    /// Publishes by the time from the ask to the answer, if the client asked for an answer. Each number counts the times up to one
    /// of [`Metrics::PUBLISH_BOUNDS_US`] and above the one before it, the last those above all. Times are those of turns, so a time
    /// is 0 if the answer comes in a turn of the same time.
    pub publish_counts: [u64; Metrics::PUBLISH_BOUNDS_US.len() + 1],
    /// The sum of these times.
    pub publish_micros: u64,
    /// Outages of the broker, or of a part of it, by the time from their end until the last room was confirmed again: by
    /// [`Metrics::RECOVERY_BOUNDS_US`] as above. A second outage before that is one with the first if it is of a part, and else counts alone.
    pub recovery_counts: [u64; Metrics::RECOVERY_BOUNDS_US.len() + 1],
    /// The sum of these times.
    pub recovery_micros: u64,
    /// Events that named a connection which no longer exists.
    pub stale_ids: u64,
}

impl Metrics {
    /// The upper bounds of [`Metrics::publish_counts`] in microseconds. A Redis on the same machine answers within 0.1 to 1 ms.
    pub const PUBLISH_BOUNDS_US: [u64; 12] =
        [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000, 5_000_000];

    /// The upper bounds of [`Metrics::recovery_counts`] in microseconds. 100,000 rooms take about a second.
    pub const RECOVERY_BOUNDS_US: [u64; 12] = [
        1_000, 5_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
        60_000_000,
    ];

    /// All rooms are back this long after the end of an outage.
    pub(crate) fn observe_recovery(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.recovery_counts[Metrics::RECOVERY_BOUNDS_US.partition_point(|bound| *bound < micros)] += 1;
        self.recovery_micros = self.recovery_micros.saturating_add(micros);
    }

    /// A publish has been answered after this time.
    pub(crate) fn observe_publish(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = Metrics::PUBLISH_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.publish_counts[bucket] += 1;
        self.publish_micros = self.publish_micros.saturating_add(micros);
    }
}
