//! What loads the machine or takes what others need: attacks, floods, servers at the end of their resources. These tests run one
//! after another, because each starts a server, and `fanfare_binary` lets only one test at a time do so in this program.

mod a_stalled_log_stops_nobody;
mod abuse_churn;
mod abuse_deliveries_to_many;
mod abuse_floods;
mod abuse_long_names_in_answers;
mod abuse_meets_its_limits;
mod abuse_messages_that_inflate;
mod abuse_readers_that_never_read;
mod abuse_resets;
mod abuse_slow_drips;
mod abuse_tls_floods;
mod abuse_unfinished_messages;
mod descriptor_exhaustion_is_survived;
mod histories_lose_nothing_in_silence;
mod pending_upgrades_are_bounded;
mod ten_thousand_members_leave_at_once;
mod workers_act_as_one_server;
