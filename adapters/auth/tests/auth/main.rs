//! Credentials in, identities or refusals out, by what the crate says to others.
//! A file for each kind of behaviour; `material` is what they share.

mod attacks_are_refused;
mod bans_are_kept;
mod callback_is_asked;
mod claims_decide;
mod commands_for_operators;
mod each_algorithm_verifies;
mod endpoint;
mod https_is_trusted_by_roots;
mod issuers_are_isolated;
mod keys_are_checked_when_loaded;
mod keys_by_url_are_fetched_sparingly;
mod material;
mod no_changed_byte_verifies;
mod redis_behind_sentinels;
mod redis_in_a_cluster;
mod renewals_leave_room_for_the_new;
mod secrets_are_never_shown;
mod service_answers_once;
mod sessions_in_redis;
mod sessions_of_express;
