//! Credentials that have to be asked about again: few at once, the others in line, and nobody ends because of the line.

use fanfare_core::rules::Rules;
use fanfare_core::time::Time;
use fanfare_core::{Auth, Ban, Banned, Bans, ConnId, Denied, Event, Identity, Source};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::sync::Arc;
use std::time::Duration;

/// Unix, ms.
const NOW: u64 = 1_700_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const RECHECK: Duration = Duration::from_secs(20);

/// A core that asks about one at a time, and connections of users whose credentials have to be asked about again.
fn lone_with_users(count: usize, expires: Option<Duration>) -> (LoneCore, Vec<ConnId>) {
    let mut lone = LoneCore::new(config(|config| {
        let mut auth = Auth::default();
        (auth.recheck, auth.rechecks_at_once_max, auth.own_rooms) = (RECHECK, 1, false);
        config.auth = Some(auth);
        config.rules = Rules::default().with_own_rooms();
        config.timeouts.ping_interval = Duration::from_secs(3_600);
    }));
    lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: NOW }));
    let conns = (0..count).map(|_| {
        let conn = lone.connect();
        lone.bytes(conn, upgrade_request("/", "Authorization: Bearer t0ken\r\n"));
        let said = answer(&mut lone, conn, Ok(&bob(expires)));
        assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{said:?}");
        conn
    });
    let conns = conns.collect();
    (lone, conns)
}

fn bob(expires: Option<Duration>) -> Identity {
    let mut identity = Identity::new("bob");
    identity.renewal = Some(b"again"[..].into());
    identity.expires_ms = expires.map(|after| NOW + after.as_millis() as u64);
    identity
}

fn answer(lone: &mut LoneCore, conn: ConnId, outcome: Result<&Identity, Denied>) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome }))
}

/// Who is asked about again.
fn asked(said: &[Said]) -> Vec<ConnId> {
    let asked = |said: &Said| match said {
        Said::Authenticate(conn, Source::Renewal, _) => Some(*conn),
        _ => None,
    };
    said.iter().filter_map(asked).collect()
}

fn closed(said: &[Said], conn: ConnId) -> bool {
    said.iter().any(|said| matches!(said, Said::Sent(to, _) if *to == conn))
}

/// Waits second by second until then, since the start. Returns all that was said.
fn wait_until(lone: &mut LoneCore, at: Duration) -> Vec<Said> {
    let mut said = Vec::new();
    while lone.now < Time::ZERO + at {
        said.extend(lone.wait(SECOND));
        lone.core.check_invariants();
    }
    said
}

#[test]
fn they_are_asked_about_one_after_the_other_in_the_order_in_which_they_are_due() {
    let (mut lone, conns) = lone_with_users(5, None);
    let said = wait_until(&mut lone, RECHECK + SECOND);
    let mut order = asked(&said);
    assert_eq!(order.len(), 1);
    let metrics = lone.core.metrics();
    assert_eq!((metrics.auth_waiting_now, metrics.auth_rechecks_deferred_now), (1, 4));
    for _ in 1..5 {
        let said = answer(&mut lone, *order.last().unwrap(), Ok(&bob(None)));
        order.extend(asked(&said));
    }
    assert_eq!(order.len(), 5, "each answer lets one be asked about");
    assert_eq!(answer(&mut lone, order[4], Ok(&bob(None))), []);
    order.sort_by_key(|conn| conn.slot());
    assert_eq!(order, conns);
    assert_eq!(lone.core.metrics().auth_rechecks_deferred_now, 0);
    assert_eq!(asked(&wait_until(&mut lone, 2 * RECHECK + 2 * SECOND)).len(), 1, "and all again");
}

#[test]
fn a_ban_of_somebody_else_asks_about_nobody() {
    let (mut lone, _) = lone_with_users(3, Some(1_000 * SECOND));
    wait_until(&mut lone, 2 * SECOND);
    let ban = Ban { banned: Banned::User("eve".into()), until_ms: NOW + 1_000_000 };
    lone.turn(|turn| turn.feed(Event::Bans(&Arc::new(Bans::new([ban])))));
    assert_eq!(asked(&wait_until(&mut lone, 12 * SECOND)), []);
}

#[test]
fn a_clock_that_is_set_asks_about_those_alone_that_end_sooner() {
    let (mut lone, conns) = lone_with_users(1, Some(1_000 * SECOND));
    wait_until(&mut lone, 2 * SECOND);
    let set = |lone: &mut LoneCore, by: Duration| {
        let unix_ms = NOW + (lone.now - Time::ZERO + by).as_millis() as u64;
        lone.turn(|turn| turn.feed(Event::WallClock { unix_ms }));
    };
    set(&mut lone, 100 * SECOND);
    assert_eq!(asked(&wait_until(&mut lone, 12 * SECOND)), [], "it ends in a quarter of an hour");
    set(&mut lone, 985 * SECOND);
    assert_eq!(asked(&wait_until(&mut lone, 16 * SECOND)), conns, "it ends in three seconds");
}

#[test]
fn connections_that_came_together_are_not_all_due_together() {
    let (mut lone, conns) = lone_with_users(64, None);
    let mut due = Vec::new();
    while lone.now < Time::ZERO + RECHECK + SECOND {
        let mut said = lone.wait(SECOND / 4);
        while let [conn] = asked(&said)[..] {
            due.push(lone.now);
            said = answer(&mut lone, conn, Ok(&bob(None)));
        }
    }
    assert!(due.first().is_some_and(|first| *first > Time::ZERO + RECHECK * 7 / 8), "an eighth sooner at most");
    due.dedup();
    assert!(due.len() > 6, "{} connections at {due:?}", conns.len());
}

#[test]
fn who_goes_gives_its_place_away() {
    let (mut lone, _) = lone_with_users(4, None);
    let first = asked(&wait_until(&mut lone, RECHECK + SECOND))[0];
    let waiting: Vec<ConnId> = {
        // One in the line, and the one that is asked about.
        let said = lone.turn(|turn| turn.feed(Event::Closed { conn: first }));
        asked(&said)
    };
    let second = match waiting[..] {
        [second] => second,
        _ => asked(&lone.wait(Duration::ZERO))[0],
    };
    assert_ne!(first, second);
    assert_eq!(lone.core.metrics().auth_rechecks_deferred_now, 2);
    let said = answer(&mut lone, second, Err(Denied::Unauthorised));
    let third = asked(&said)[0];
    assert!(third != first && third != second && closed(&said, second));
    lone.core.check_invariants();
}

#[test]
fn whoever_waits_in_line_may_show_another_credential() {
    let (mut lone, conns) = lone_with_users(2, None);
    let first = asked(&wait_until(&mut lone, RECHECK + SECOND))[0];
    let other = if conns[0] == first { conns[1] } else { conns[0] };
    let auth = |id: u32| Frame::text(format!(r#"{{"type":"AUTH","token":"new","id":{id}}}"#)).masked();
    let said = lone.bytes(first, auth(1));
    assert!(text_to(&said, first).contains(r#""code":"pending""#), "{said:?}");
    let said = lone.bytes(other, auth(2));
    assert!(said.contains(&Said::Authenticate(other, Source::Command, b"new".to_vec())), "{said:?}");
    assert_eq!(lone.core.metrics().auth_rechecks_deferred_now, 0);
    // It was no good. What it had before is asked about all the same.
    answer(&mut lone, other, Err(Denied::Unauthorised));
    answer(&mut lone, first, Ok(&bob(None)));
    let said = wait_until(&mut lone, RECHECK + 8 * SECOND);
    assert_eq!(asked(&said), [other]);
}

#[test]
fn an_expired_credential_outlasts_a_line_that_moves() {
    let (mut lone, conns) = lone_with_users(20, Some(10 * SECOND));
    let mut current = asked(&wait_until(&mut lone, 11 * SECOND))[0];
    // One answer in five seconds: the last is asked about a minute and a half after its credential is over.
    let renewed = bob(Some(Duration::from_secs(3_600)));
    let mut seen = vec![current];
    for round in 1..20 {
        let said = wait_until(&mut lone, 11 * SECOND + round * 5 * SECOND);
        assert!(!conns.iter().any(|conn| closed(&said, *conn)), "nobody ends, round {round}: {said:?}");
        current = asked(&answer(&mut lone, current, Ok(&renewed)))[0];
        seen.push(current);
    }
    answer(&mut lone, current, Ok(&renewed));
    seen.sort_by_key(|conn| conn.slot());
    assert_eq!(seen, conns);
    assert_eq!(lone.core.metrics().auth_closes, 0);
}

#[test]
fn an_expired_credential_has_its_grace_once_it_is_asked_about() {
    let (mut lone, _) = lone_with_users(9, Some(10 * SECOND));
    let mut current = asked(&wait_until(&mut lone, 11 * SECOND))[0];
    let renewed = bob(Some(Duration::from_secs(3_600)));
    for round in 1..9 {
        wait_until(&mut lone, 11 * SECOND + round * 5 * SECOND);
        current = asked(&answer(&mut lone, current, Ok(&renewed)))[0];
    }
    // The last one stood in line for 40 seconds, and now nobody can say what has become of it.
    let said = wait_until(&mut lone, 75 * SECOND);
    assert!(!closed(&said, current), "{said:?}");
    let said = wait_until(&mut lone, 90 * SECOND);
    assert!(closed(&said, current), "{said:?}");
}

#[test]
fn an_outage_ends_expired_credentials_in_line_as_well() {
    let (mut lone, conns) = lone_with_users(3, Some(10 * SECOND));
    let mut current = asked(&wait_until(&mut lone, 11 * SECOND))[0];
    let mut said = Vec::new();
    for round in 1..12 {
        said.extend(wait_until(&mut lone, 11 * SECOND + round * 3 * SECOND));
        let next = answer(&mut lone, current, Err(Denied::Unavailable));
        current = asked(&next).first().copied().unwrap_or(current);
        said.extend(next);
    }
    said.extend(wait_until(&mut lone, 60 * SECOND));
    assert!(conns.iter().all(|conn| closed(&said, *conn)), "{said:?}");
}

#[test]
fn an_answer_that_never_comes_holds_up_the_line_for_a_while_only() {
    let (mut lone, _) = lone_with_users(2, None);
    let first = asked(&wait_until(&mut lone, RECHECK + SECOND))[0];
    let said = wait_until(&mut lone, RECHECK + Duration::from_secs(130));
    let next = asked(&said)[0];
    assert_ne!(next, first);
    let again = asked(&answer(&mut lone, next, Ok(&bob(None))));
    assert_eq!(again, [first], "it is asked about again");
}
