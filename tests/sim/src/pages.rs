//! The web pages that clients come from, as browsers tell of them by `Origin`: which may connect, and whose visitors' cookies count. In words
//! of its own, as the documentation says it, so that the code under test is not asked about itself.

use crate::options::pick;
use fanfare_core::Origins;
use fastrand::Rng;

/// The name of the cookie that may be a credential.
pub const COOKIE: &str = "sid";
/// The header field in which whoever is asked about whole requests looks.
pub const SESSION: &str = "X-Session";

/// `Origin` of requests to `localhost`.
const PAGES: [&str; 4] = ["http://localhost", "https://pages.example", "http://localhost.pages.example", "null"];
const OWN: usize = 0;
const LISTED: usize = 1;

/// A page, or none: what is no browser does not say `Origin`.
pub type Page = Option<usize>;

/// Which pages may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The one that comes from where the server is.
    Own,
    /// The one that is listed.
    Listed,
    /// Any.
    Any,
}

impl Admitted {
    /// What a seed has of it.
    pub fn draw(r: &mut Rng) -> Admitted {
        pick(r, &[Admitted::Own, Admitted::Own, Admitted::Listed, Admitted::Any])
    }

    /// As the core takes it.
    pub fn origins(self) -> Origins {
        match self {
            Admitted::Own => Origins::SameHost,
            Admitted::Listed => Origins::List(vec![PAGES[LISTED].parse().expect("it is an origin")]),
            Admitted::Any => Origins::Any,
        }
    }

    /// Whether it may connect.
    pub fn passes(self, page: Page) -> bool {
        let Some(page) = page else { return true };
        match self {
            Admitted::Own => page == OWN,
            Admitted::Listed => page == LISTED,
            Admitted::Any => true,
        }
    }

    /// Whether its visitor's cookies count: there is one, it passes, and not every page does.
    pub fn trusts(self, page: Page) -> bool {
        page.is_some() && self.passes(page) && self != Admitted::Any
    }

    /// One that passes.
    fn good_page(self, r: &mut Rng) -> Page {
        match self {
            Admitted::Own => Some(OWN),
            Admitted::Listed => Some(LISTED),
            Admitted::Any => Some(r.usize(0..PAGES.len())),
        }
    }

    /// That of a request that is to be accepted.
    pub fn draw_good_page(self, shows_a_cookie: bool, r: &mut Rng) -> Page {
        if !shows_a_cookie && r.bool() { None } else { self.good_page(r) }
    }

    /// That of a request: sometimes one that does not pass, or none.
    pub fn draw_page(self, shows_a_cookie: bool, r: &mut Rng) -> Page {
        match (r.u32(0..100), shows_a_cookie) {
            (0..10, _) => Some(r.usize(0..PAGES.len())),
            (10..25, true) | (10..80, false) => None,
            _ => self.good_page(r),
        }
    }
}

/// The line of a request's head that tells of the page.
pub fn origin_line(page: Page) -> String {
    page.map_or(String::new(), |page| format!("Origin: {}\r\n", PAGES[page]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pages_cookies_count_only_where_not_every_page_may_connect() {
        assert!(Admitted::Own.trusts(Some(OWN)) && Admitted::Listed.trusts(Some(LISTED)));
        for admitted in [Admitted::Own, Admitted::Listed, Admitted::Any] {
            assert!(admitted.passes(None) && !admitted.trusts(None));
        }
        assert!(!Admitted::Own.passes(Some(LISTED)) && !Admitted::Listed.passes(Some(OWN)));
        assert!(Admitted::Any.passes(Some(LISTED)) && !Admitted::Any.trusts(Some(OWN)));
    }
}
