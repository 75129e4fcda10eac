//! The page at `/`: `page/page.html` with its style, its script and the limits that it must know filled in. What the page does is in
//! its script, not here.

use fanfare_core::Limits;

const TEMPLATE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// What `GET /` serves: a page to try the server with, which refuses what the server would cut the connection for.
///
/// It lives as long as the process, because the core borrows it for ever: call it once.
pub fn page(limits: &Limits) -> &'static [u8] {
    filled(limits).into_bytes().leak()
}

fn filled(limits: &Limits) -> String {
    TEMPLATE
        .replace("{page.css}", STYLE)
        .replace("{page.js}", SCRIPT)
        .replace("{limits.message_bytes_max}", &limits.message_bytes_max.to_string())
        .replace("{limits.room_name_bytes_max}", &limits.room_name_bytes_max.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_told_the_limits() {
        let mut limits = Limits::default();
        (limits.message_bytes_max, limits.room_name_bytes_max) = (2_345, 67);
        let page = filled(&limits);
        for told in [r#"name="message-bytes-max" content="2345""#, r#"name="room-name-bytes-max" content="67""#] {
            assert_eq!(page.matches(told).count(), 1, "{told}");
        }
        assert!(!page.contains("{limits.") && !page.contains("{page."), "a place is left empty");
        assert_eq!((page.matches(STYLE).count(), page.matches(SCRIPT).count()), (1, 1));
    }
}
