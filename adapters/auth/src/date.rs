//! Times as people read them, RFC 3339 in UTC.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// To the millisecond. Later than the year 9999 there is none.
pub(crate) fn date(ms: u64) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
    date.format(&Rfc3339).ok()
}
