//! Every metric, once: name, kind, meaning, and the figure of the [`Snapshot`] it shows.

use super::snapshot::Snapshot;
use fanfare_shell::ops::exposition::Kind;

/// What several workers' figures make together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Across {
    Sum,
    /// Of 0 and 1: whether it is so for all. Of others the least.
    Least,
    /// Of 0 and 1: whether it is so for any.
    Most,
}

/// One metric with all its samples.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) across: Across,
    pub(crate) help: &'static str,
    pub(crate) samples: &'static [Sample],
}

/// One line of a metric.
pub(crate) struct Sample {
    /// As they stand between the braces; empty for none.
    pub(crate) labels: &'static str,
    pub(crate) value: Figure,
}

/// Takes a sample's figure out of a snapshot.
pub(crate) type Figure = fn(&Snapshot) -> u64;

/// The number of samples in [`FAMILIES`].
pub(crate) const SAMPLES: usize = {
    let (mut count, mut index) = (0, 0);
    while index < FAMILIES.len() {
        count += FAMILIES[index].samples.len();
        index += 1;
    }
    count
};

/// The figures of all samples in the order of [`FAMILIES`], and what they make together: flat and constant, so that publishing
/// is straight code.
pub(crate) const FIGURES: [(Figure, Across); SAMPLES] = {
    let mut figures = [(FAMILIES[0].samples[0].value, Across::Sum); SAMPLES];
    let (mut next, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut sample = 0;
        while sample < FAMILIES[family].samples.len() {
            figures[next] = (FAMILIES[family].samples[sample].value, FAMILIES[family].across);
            next += 1;
            sample += 1;
        }
        family += 1;
    }
    figures
};

const fn counter(name: &'static str, help: &'static str, samples: &'static [Sample]) -> Family {
    Family { name, kind: Kind::Counter, across: Across::Sum, help, samples }
}

const fn gauge(name: &'static str, help: &'static str, samples: &'static [Sample]) -> Family {
    Family { name, kind: Kind::Gauge, across: Across::Sum, help, samples }
}

const fn flag(name: &'static str, across: Across, help: &'static str, samples: &'static [Sample]) -> Family {
    Family { name, kind: Kind::Gauge, across, help, samples }
}

/// One sample per row: labels, if any, and the figure.
macro_rules! samples {
    ($($(($labels:expr))? $snapshot:ident => $value:expr),+ $(,)?) => {
        &[$(Sample { labels: concat!("", $($labels)?), value: |$snapshot: &Snapshot| $value }),+]
    };
}

/// Every metric but the limits and the histograms, in the order in which they are shown.
pub(crate) const FAMILIES: &[Family] = &[
    flag(
        "fanfare_build_info",
        Across::Most,
        "Always 1; the label tells the version.",
        samples![(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"")) _s => 1],
    ),
    gauge("fanfare_workers", "Event loops.", samples![_s => 1]),
    gauge("fanfare_connections", "Open WebSocket connections.", samples![s => s.core.connections_now]),
    flag(
        "fanfare_draining",
        Across::Most,
        "1 while the server is about to stop: it drains, or shuts down.",
        samples![s => s.core.draining_now],
    ),
    gauge(
        "fanfare_departing_connections",
        "Open WebSocket connections that have to go, because the server stops or sheds.",
        samples![s => s.core.departing_now],
    ),
    counter(
        "fanfare_drains_told_total",
        "Clients that were told by DRAIN when to go.",
        samples![s => s.core.drains_told],
    ),
    counter(
        "fanfare_drain_closes_total",
        "Connections closed with 1012 because the server stops or sheds; the others that had to go went by themselves.",
        samples![s => s.core.drain_closes],
    ),
    gauge(
        "fanfare_event_streams",
        "Open event streams (SSE). They count as connections, too.",
        samples![s => s.core.event_streams_now],
    ),
    gauge(
        "fanfare_compressed_connections",
        "Open WebSocket connections that agreed upon compression.",
        samples![s => s.core.compressed_connections_now],
    ),
    gauge(
        "fanfare_pending_upgrades",
        "Connections that have not finished their request head; the limit of pending upgrades counts answered ones, too.",
        samples![s => s.core.pending_upgrades_now],
    ),
    counter(
        "fanfare_upgrades_total",
        "WebSocket upgrades by outcome.",
        samples![
            ("outcome=\"accepted\"") s => s.core.upgrades_accepted,
            ("outcome=\"refused_full\"") s => s.core.upgrades_refused_full,
            ("outcome=\"refused_draining\"") s => s.core.upgrades_refused_draining,
            ("outcome=\"invalid\"") s => s.core.upgrades_invalid,
            ("outcome=\"timed_out\"") s => s.core.upgrades_timed_out,
            ("outcome=\"refused_origin\"") s => s.core.upgrades_refused_origin,
            ("outcome=\"refused_address\"") s => s.core.upgrades_refused_address,
            ("outcome=\"refused_user\"") s => s.core.upgrades_refused_user,
            ("outcome=\"evicted\"") s => s.core.upgrades_evicted,
            ("outcome=\"refused_auth\"") s => s.core.upgrades_refused_auth,
        ],
    ),
    counter(
        "fanfare_tls_handshakes_total",
        "TLS handshakes by outcome; resumed ones made no signature.",
        samples![
            ("outcome=\"full\"") s => s.tls.full,
            ("outcome=\"resumed\"") s => s.tls.resumed,
            ("outcome=\"plain_http\"") s => s.tls.plain_http,
            ("outcome=\"malformed\"") s => s.tls.malformed,
            ("outcome=\"incompatible\"") s => s.tls.incompatible,
            ("outcome=\"refused\"") s => s.tls.refused,
            ("outcome=\"unfinished\"") s => s.tls.unfinished,
        ],
    ),
    flag(
        "fanfare_tls_certificate_expiry_timestamp_seconds",
        Across::Least,
        "When the first of the certificates expires, in seconds since 1970; 0 without TLS.",
        samples![s => s.certificates_good_until],
    ),
    counter(
        "fanfare_http_requests_total",
        "Plain HTTP requests answered on the main port.",
        samples![s => s.core.http_requests],
    ),
    counter(
        "fanfare_auth_total",
        "Credentials by what was found out, also those that were asked about again.",
        samples![
            ("outcome=\"accepted\"") s => s.core.auth_accepted,
            ("outcome=\"refused\"") s => s.core.auth_refused,
            ("outcome=\"unavailable\"") s => s.core.auth_unavailable,
        ],
    ),
    gauge("fanfare_auth_waiting", "Credentials that are looked at.", samples![s => s.core.auth_waiting_now]),
    gauge(
        "fanfare_auth_rechecks_deferred",
        "Sessions, and answers of auth.url, that are due to be looked up again, and wait until others have been.",
        samples![s => s.core.auth_rechecks_deferred_now],
    ),
    counter(
        "fanfare_auth_overflows_total",
        "Credentials that were not looked at because too many waited, so that clients got 503 or auth_unavailable.",
        samples![s => s.auth_not_looked_at],
    ),
    gauge(
        "fanfare_auth_bans_unseen_seconds",
        "For how long the bans have not been seen as they are: 0 while they are looked at every half second.",
        samples![s => s.auth_bans_unseen_s],
    ),
    counter(
        "fanfare_auth_closes_total",
        "Connections closed with 4001, 4501 or 4503, because of a credential or for want of a permission.",
        samples![s => s.core.auth_closes],
    ),
    counter(
        "fanfare_backend_closes_total",
        "Connections that a backend has ended by the API.",
        samples![s => s.core.program_closes],
    ),
    gauge(
        "fanfare_users",
        "Users with at least one connection to this instance, for each worker that has one.",
        samples![s => s.core.users_now],
    ),
    counter(
        "fanfare_permissions_denied_total",
        "Commands, and rooms in URLs, that were refused because the user may not.",
        samples![s => s.core.permissions_denied],
    ),
    counter(
        "fanfare_members_refused_total",
        "Memberships refused because the room had as many members as its rule allows.",
        samples![s => s.core.members_refused],
    ),
    counter(
        "fanfare_quota_refused_total",
        "What was refused because its user has or does as much as one may, by limit: connections (upgrades and AUTH), memberships of rooms, messages.",
        samples![
            ("limit=\"connections\"") s => s.core.quota_connections_refused,
            ("limit=\"rooms\"") s => s.core.quota_rooms_refused,
            ("limit=\"messages\"") s => s.core.quota_messages_refused,
        ],
    ),
    counter(
        "fanfare_permissions_withdrawn_total",
        "Memberships that ended because the user may no longer have them.",
        samples![s => s.core.permissions_withdrawn],
    ),
    gauge(
        "fanfare_rooms",
        "Rooms with at least one member on this instance, for each worker that has one.",
        samples![s => s.core.rooms_now],
    ),
    gauge("fanfare_memberships", "Pairs of room and member on this instance.", samples![s => s.core.memberships_now]),
    counter("fanfare_commands_total", "Text frames understood as commands.", samples![s => s.core.commands]),
    counter("fanfare_command_errors_total", "Commands answered with ERROR.", samples![s => s.core.command_errors]),
    counter(
        "fanfare_messages_in_total",
        "Messages taken from clients and handed to the broker.",
        samples![s => s.core.messages_in],
    ),
    counter(
        "fanfare_messages_out_total",
        "Messages that the broker delivered for rooms with members.",
        samples![s => s.core.messages_out],
    ),
    counter(
        "fanfare_messages_dropped_total",
        "Messages of the broker that were dropped, by why.",
        samples![
            ("reason=\"not_utf8\"") s => s.core.messages_not_utf8,
            ("reason=\"version\"") s => s.core.messages_of_other_versions,
            ("reason=\"forged\"") s => s.core.messages_forged,
        ],
    ),
    counter(
        "fanfare_deliveries_total",
        "Messages handed to a member, each member counted.",
        samples![s => s.core.deliveries],
    ),
    counter("fanfare_received_bytes_total", "Bytes read from clients.", samples![s => s.core.bytes_in]),
    counter(
        "fanfare_sent_bytes_total",
        "Bytes of frames and responses addressed to clients.",
        samples![s => s.core.bytes_out],
    ),
    counter(
        "fanfare_compression_bytes_total",
        "Bytes of messages to clients before and after they were compressed, counted once for all members alike.",
        samples![
            ("stage=\"before\"") s => s.core.compression_bytes_in,
            ("stage=\"after\"") s => s.core.compression_bytes_out,
        ],
    ),
    gauge(
        "fanfare_unsent_bytes",
        "Bytes that clients have not taken yet, each client counted.",
        samples![s => s.core.unsent_bytes_now],
    ),
    gauge(
        "fanfare_stored_frame_bytes",
        "Bytes of shared frames kept for clients that lag.",
        samples![s => s.core.stored_frame_bytes_now],
    ),
    counter(
        "fanfare_slow_closes_total",
        "Connections closed with 4008 because they read too slowly.",
        samples![s => s.core.slow_closes],
    ),
    counter(
        "fanfare_heartbeat_closes_total",
        "Connections closed because no sign of life came after a ping.",
        samples![s => s.core.heartbeat_closes],
    ),
    counter(
        "fanfare_protocol_closes_total",
        "Connections closed for a violation of the WebSocket protocol.",
        samples![s => s.core.protocol_closes],
    ),
    counter(
        "fanfare_rate_limited_total",
        "What was beyond a connection's rate, by limit: refused, or the connection closed for it.",
        samples![
            ("limit=\"messages\"") s => s.core.limited_messages,
            ("limit=\"bytes\"") s => s.core.limited_bytes,
            ("limit=\"pings\"") s => s.core.limited_pings,
            ("limit=\"deliveries\"") s => s.core.limited_deliveries,
        ],
    ),
    counter(
        "fanfare_rate_closes_total",
        "Connections closed with 4029 because they sent too fast.",
        samples![s => s.core.rate_closes],
    ),
    gauge(
        "fanfare_unfinished_bytes",
        "Bytes held of clients' messages that are not whole yet.",
        samples![s => s.core.unfinished_bytes_now],
    ),
    counter(
        "fanfare_unfinished_closes_total",
        "Connections closed with 4008 because a message did not become whole, in time or within the memory for all.",
        samples![s => s.core.unfinished_closes],
    ),
    counter(
        "fanfare_publishes_total",
        "Publishes whose client asked for an answer, by outcome.",
        samples![
            ("outcome=\"confirmed\"") s => s.core.publishes_confirmed,
            ("outcome=\"failed\"") s => s.core.publishes_failed,
        ],
    ),
    gauge(
        "fanfare_publishes_deferred",
        "Publishes that wait until a SUBSCRIBE of their own connection for their room is confirmed.",
        samples![s => s.core.publishes_deferred_now],
    ),
    gauge(
        "fanfare_history_memory_bytes",
        "Messages of rooms with history that are kept in memory for members that come back.",
        samples![s => s.core.history_bytes_now],
    ),
    gauge(
        "fanfare_members_behind",
        "Members that have yet to be given what their rooms have said before.",
        samples![s => s.core.members_behind_now],
    ),
    counter(
        "fanfare_members_fallen_behind_total",
        "Slow members of rooms with slow = catch_up that were left behind, to be given later what they did not take.",
        samples![s => s.core.members_fallen_behind],
    ),
    counter(
        "fanfare_messages_replayed_total",
        "Messages said again to members that came back.",
        samples![s => s.core.messages_replayed],
    ),
    counter(
        "fanfare_history_repairs_total",
        "Messages of rooms with history that did not follow the one before, so that what was missing was read.",
        samples![s => s.core.history_repairs],
    ),
    counter(
        "fanfare_gaps_total",
        "Rooms whose members were told that they had missed messages.",
        samples![s => s.core.gaps],
    ),
    counter(
        "fanfare_history_unannounced_total",
        "Messages that Redis stored and would not publish: members get them when they read the room's history.",
        samples![s => s.history_unannounced],
    ),
    counter(
        "fanfare_history_unreplicated_total",
        "Messages that Redis stored, and that fewer than history_replicas_min replicas had in time: senders were told unconfirmed.",
        samples![s => s.history_unreplicated],
    ),
    gauge(
        "fanfare_presence_users",
        "Users in rooms with presence by connections of this instance, each as often as it is in one.",
        samples![s => s.core.presence_users_now],
    ),
    gauge(
        "fanfare_presence_rooms_observed",
        "Rooms of which this instance knows who is there.",
        samples![s => s.core.presence_rooms_observed_now],
    ),
    counter(
        "fanfare_presence_changes_total",
        "Changes of who is in an observed room that the broker has told of.",
        samples![s => s.core.presence_changes],
    ),
    counter(
        "fanfare_presence_announced_total",
        "JOINED and LEFT, each once for all on this instance that observe the room.",
        samples![s => s.core.presence_announced],
    ),
    counter(
        "fanfare_presence_failed_total",
        "What the broker was told or asked of presence and did not take; it is told again.",
        samples![s => s.core.presence_failed],
    ),
    counter(
        "fanfare_presence_incarnations_total",
        "Times that a worker began to tell Redis of its users: once, and again each time that what it had told was lost.",
        samples![s => s.presence_incarnations],
    ),
    counter(
        "fanfare_presence_commands_total",
        "Commands of presence for Redis: whose users come and go, leases, and clearing up after instances that are gone.",
        samples![s => s.presence_commands],
    ),
    counter(
        "fanfare_hook_requests_total",
        "Requests to webhooks, each time that one was made.",
        samples![s => s.hook_requests],
    ),
    counter(
        "fanfare_hook_failures_total",
        "Requests to webhooks that were not answered in time, or not as they should be.",
        samples![s => s.hook_failures],
    ),
    counter(
        "fanfare_hook_messages_total",
        "Messages of clients that waited for a webhook, by what became of them; the others were published.",
        samples![
            ("outcome=\"asked\"") s => s.core.proposals,
            ("outcome=\"refused\"") s => s.core.proposals_refused,
            ("outcome=\"unavailable\"") s => s.core.proposals_undecided,
            ("outcome=\"busy\"") s => s.core.proposals_busy,
        ],
    ),
    counter(
        "fanfare_hook_events_dropped_total",
        "Events that webhooks were not told of: too many waited, or they were not taken for too long.",
        samples![s => s.hook_events_dropped],
    ),
    gauge(
        "fanfare_hook_events_waiting",
        "Events of which webhooks have yet to be told.",
        samples![s => s.hook_events_waiting],
    ),
    gauge(
        "fanfare_hook_messages_waiting",
        "Messages of clients that wait for a webhook.",
        samples![s => s.core.proposals_waiting_now],
    ),
    counter(
        "fanfare_history_foreign_total",
        "Messages that other programs published into rooms with history: delivered to members, and not stored.",
        samples![s => s.core.history_foreign],
    ),
    counter(
        "fanfare_stale_ids_total",
        "Events that named a connection which no longer existed.",
        samples![s => s.core.stale_ids],
    ),
    flag(
        "fanfare_broker_up",
        Across::Least,
        "Whether the link to the broker is up (1) at every worker, or down (0) at any.",
        samples![
            ("link=\"subscriber\"") s => s.subscriber_up.into(),
            ("link=\"publisher\"") s => s.publisher_up.into(),
            ("link=\"durable_publisher\"") s => s.durable_publisher_up.into(),
        ],
    ),
    counter(
        "fanfare_broker_reconnects_total",
        "Times a lost link to the broker came back.",
        samples![s => s.broker_reconnects],
    ),
    counter(
        "fanfare_broker_master_changes_total",
        "Times that Sentinels named another master than before, or that parts of a Cluster went to other masters.",
        samples![s => s.broker_master_changes],
    ),
    gauge(
        "fanfare_broker_rooms_returning",
        "Rooms that the broker has yet to confirm again after an outage.",
        samples![s => s.core.rooms_returning_now],
    ),
    counter(
        "fanfare_broker_subscriptions_refused_total",
        "Subscriptions of rooms that the broker refused for good.",
        samples![s => s.core.subscriptions_refused],
    ),
    counter(
        "fanfare_broker_publishes_dropped_total",
        "Publishes without an id that the broker did not confirm: it was away, busy, or refused them.",
        samples![s => s.broker_publishes_dropped],
    ),
    gauge(
        "fanfare_broker_publishes_in_flight",
        "Publishes that the broker has not answered yet.",
        samples![s => s.broker_publishes_in_flight],
    ),
    counter(
        "fanfare_broker_oversized_total",
        "Messages of the broker skipped because they exceeded redis.message_bytes_max.",
        samples![s => s.broker_oversized],
    ),
    counter(
        "fanfare_accept_errors_total",
        "Failures to accept a connection, such as a lack of file descriptors.",
        samples![s => s.accept_errors],
    ),
    flag(
        "fanfare_accepts_paused",
        Across::Most,
        "Whether accepting connections is paused (1) or not (0).",
        samples![s => s.accepts_paused.into()],
    ),
];

/// The limits that a server has in all, beside which its gauges are read.
pub(crate) const LIMITS: [(&str, &str); 4] = [
    (
        "fanfare_connections_max",
        "The most open WebSocket connections: limits.connections_max, or what the file descriptors allow.",
    ),
    ("fanfare_pending_upgrades_max", "limits.pending_upgrades_max, as it is divided among the workers."),
    ("fanfare_stored_frame_max_bytes", "limits.outbox_total_bytes_max, as it is divided among the workers."),
    ("fanfare_broker_publishes_in_flight_max", "redis.publishes_in_flight_max of all workers; absent without Redis."),
];

/// The histogram of the time that publishes take.
pub(crate) const PUBLISH_NAME: &str = "fanfare_publish_seconds";
/// Its meaning.
pub(crate) const PUBLISH_HELP: &str =
    "From a client's message to the broker's answer, for those whose client asked for it.";

/// The histogram of the time until all rooms are back.
pub(crate) const RECOVERY_NAME: &str = "fanfare_broker_resubscribe_seconds";
/// Its meaning.
pub(crate) const RECOVERY_HELP: &str =
    "From the end of an outage of the broker, or of a part of it, until it has confirmed all rooms again.";

/// The histogram of the event loop's turns.
pub(crate) const TURN_NAME: &str = "fanfare_loop_turn_seconds";
/// Its meaning.
pub(crate) const TURN_HELP: &str = "How long a turn of the event loop worked, waiting for events excluded.";
/// The upper bounds of its buckets in microseconds; one more bucket takes what lies above. A turn with one small
/// delivery takes some 10 us; a second without a turn is an outage.
pub(crate) const TURN_BOUNDS_US: [u64; 16] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];
