//! Spans of time as people write them: `90s`, `15m`, `1h`, `30d`.

/// A hundred years. What is longer is a mistake.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// The seconds of a span.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let span = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let of = span.filter(|(digits, _)| is_number(digits));
    let seconds = of.and_then(|(digits, seconds)| digits.parse::<u64>().ok()?.checked_mul(seconds));
    seconds.filter(|seconds| (1..=SECONDS_MAX).contains(seconds)).ok_or_else(|| {
        format!("{text:?} is no span of time: it is a number and a unit, such as 90s, 15m, 1h or 30d, up to 100 years")
    })
}
