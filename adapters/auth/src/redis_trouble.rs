//! Why a Redis or a Sentinel does not answer, for people, without any argument of a command.

use redis::RedisError;

/// What the server answered, if it did: of what it says, the first word alone (`NOAUTH`, `LOADING`).
pub(crate) fn refusal(error: &RedisError) -> Option<String> {
    let of_one = error.code().map(str::to_owned);
    of_one.or_else(|| Some(error.clone().into_server_errors()?.first()?.1.code().to_owned()))
}

/// What went wrong, for people.
pub(crate) fn reason(error: &RedisError) -> String {
    match refusal(error) {
        Some(code) => format!("Redis refuses ({code})"),
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}
