//! Credentials in, identities or refusals out, by what the crate says to others.
//! A file for each kind of behaviour; `material` is what they share.

mod attacks_are_refused;
mod claims_decide;
mod each_algorithm_verifies;
mod keys_are_checked_when_loaded;
mod keys_by_url_are_fetched_sparingly;
mod material;
mod no_changed_byte_verifies;
mod secrets_are_never_shown;
mod sessions_of_express;
