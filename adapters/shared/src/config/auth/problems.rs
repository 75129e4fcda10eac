//! What is wrong with section `auth` and `[[issuers]]` as a whole, and what is probably not meant.

use super::verification::{Wrong, built};
use super::{Auth, ISSUERS};
use crate::config::Config;
use fanfare_auth::CookieKind;
use fanfare_core::{Admission, Limits, Origins, PublishFormat};
use fanfare_shell::config::{Problem, Source, Sources};

const WHAT_VERIFIES: &str = "something that verifies (auth.secret, another key of an issuer, auth.session_secret or auth.url), or \
                             nothing else of the section";

/// All that is wrong.
pub(crate) fn problems(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    if !config.auth.is_on() {
        return of_nothing(config, sources);
    }
    let together = together(config).into_iter().map(|(key, wrong, right)| Problem {
        key: key.to_owned(),
        from: sources.of(key).clone(),
        wrong: wrong.to_owned(),
        right: right.to_owned(),
    });
    let alone = built(config).err().into_iter().flatten().map(|wrong| problem(config, sources, wrong));
    let unprefixed = unprefixed(config).map(|wrong| problem(config, sources, wrong));
    together.chain(alone).chain(unprefixed).collect()
}

/// Issuers of whom nobody has said which users they may name, although users come from other places as well.
fn unprefixed(config: &Config) -> impl Iterator<Item = Wrong> {
    let auth = &config.auth;
    let issuers = auth.issuers.iter().enumerate();
    let issuers = issuers.filter(|(_, issuer)| auth.has_several_sources() && issuer.user_prefix.is_none());
    issuers.map(|(index, _)| Wrong {
        key: "user_prefix",
        issuer: Some(index),
        wrong: "it is missing, and users come from other places as well: this issuer could name any of theirs".to_owned(),
        right: "a text of its own, such as user_prefix = \"partner:\", or user_prefix = \"\" for an issuer that may be any user",
    })
}

/// Whoever sets one of these keys takes the server for a closed one.
fn of_nothing(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    let changed = sources.changed("auth", config, &Config::default());
    // `check-config` prints what holds by default into a file, which says nothing of what is meant.
    let is_asked_for = |key: &str| matches!(sources.of(key), Source::Flag(_) | Source::Environment(_));
    let required = Some("auth.required").filter(|key| config.auth.core.required && is_asked_for(key));
    let keys = changed.into_iter().chain(required);
    let problem = |key: &str| Problem {
        key: key.to_owned(),
        from: sources.of(key).clone(),
        wrong: "nothing verifies credentials, so everything is open to everybody".to_owned(),
        right: WHAT_VERIFIES.to_owned(),
    };
    keys.map(problem).collect()
}

/// Values that are right alone and wrong together: the key to blame, why, and what would be right.
fn together(config: &Config) -> Vec<(&'static str, &'static str, &'static str)> {
    let Auth { core, session, callback, cookie_holds, bans_file, .. } = &config.auth;
    let (has_cookie, has_callback) = (core.cookie.is_some(), callback.url.is_some());
    let cookie = |holds: CookieKind| has_cookie && *cookie_holds == holds;
    let is_unasked = |name: &str| name.eq_ignore_ascii_case("cookie") || name.eq_ignore_ascii_case("authorization");
    let forwards_unasked = has_callback && callback.forward_headers.iter().any(|name| is_unasked(name.as_str()));
    let others = core.header || core.query.is_some() || core.subprotocol || core.command;
    let wrong = [
        (
            has_cookie && config.core.admission.origins == Origins::Any,
            "auth.cookie",
            "origins is *: a page of anybody could speak for the visitor, whose browser sends the cookie unasked",
            "an empty auth.cookie, or origins that names the pages which may connect",
        ),
        (
            forwards_unasked && config.core.admission.origins == Origins::Any,
            "auth.forward_headers",
            "origins is *: a page of anybody could speak for the visitor, whose browser sends cookie and authorization unasked",
            "neither of these, or origins that names the pages which may connect",
        ),
        (
            cookie(CookieKind::Session) && !session.has_secrets() && !has_callback,
            "auth.cookie",
            "it holds a session, and no secret is there to check its signature by",
            "auth.session_secret or auth.session_secret_file, or auth.cookie_holds = \"token\"",
        ),
        (
            cookie(CookieKind::Token) && !config.auth.has_issuers() && !has_callback,
            "auth.cookie",
            "it holds a token, and there is no key of an issuer to verify it by",
            "auth.secret or another key of an issuer, or auth.cookie_holds = \"session\"",
        ),
        (
            session.has_secrets() && !cookie(CookieKind::Session),
            "auth.cookie",
            "sessions are configured, and no cookie is taken for one",
            "the name of the cookie, such as connect.sid, with auth.cookie_holds = \"session\"",
        ),
        (
            config.auth.has_issuers() && !others && !cookie(CookieKind::Token),
            "auth.header",
            "tokens can be verified, and clients can show none in any way",
            "auth.header, auth.subprotocol or auth.command = \"on\", or a field for auth.query",
        ),
        (
            config.auth.user_claim.is_empty(),
            "auth.user_claim",
            "it is empty",
            "the name of the claim that holds the user, such as sub",
        ),
        (
            bans_file.as_ref().is_some_and(|path| path.is_relative()),
            "auth.bans_file",
            "it is relative: a ban would be written in the folder of whoever bans, and looked for in the server's",
            "an absolute path, such as /var/lib/fanfare/bans",
        ),
        (
            session.user.split('.').any(str::is_empty),
            "auth.session_user",
            "it has an empty name",
            "names with dots between them, such as passport.user",
        ),
    ];
    wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong).map(|(_, key, wrong, right)| (key, wrong, right)).collect()
}

fn problem(config: &Config, sources: &Sources<Config>, wrong: Wrong) -> Problem {
    let Wrong { key, issuer, wrong, right } = wrong;
    let (key, from) = match issuer {
        None => (key.to_owned(), sources.of(key).clone()),
        Some(index) => {
            let label = ISSUERS.label(index, &config.auth.issuers[index]);
            (format!("{label}: {key}"), sources.of_table(ISSUERS.name, index).clone())
        }
    };
    Problem { key, from, wrong, right: right.to_owned() }
}

/// What is probably not meant.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let is_on = config.auth.is_on();
    let in_classic = (is_on && config.core.publish_format == PublishFormat::Classic)
        .then_some("redis.format is classic, in which a message cannot say which user sent it: members get no from");
    let unused = (config.auth.bans_file.is_some() && config.redis.target.is_some())
        .then_some("auth.bans_file is not used, because bans are kept in the Redis of redis.url");
    let Admission { connections_per_address_max, connections_per_user_max, connects_per_address, .. } =
        &config.core.admission;
    let is_unlimited = *connections_per_address_max == 0 && !connects_per_address.is_limited();
    let crowd = (is_on && is_unlimited && !config.listen.ip().is_loopback()).then_some(
        "limits.connections_per_address_max and limits.connects_per_address_per_second are 0: one address may have credentials verified as \
         fast as it can show them, and keep a slow auth.url or auth.jwks_url at work",
    );
    let Limits { rooms_per_user_max, user_messages, .. } = &config.core.limits;
    let in_cluster = config.core.presence.connections_per_user_max > 0;
    let are_limited =
        in_cluster || *connections_per_user_max > 0 || *rooms_per_user_max > 0 || user_messages.is_limited();
    let nobody = (!is_on && are_limited).then_some(
        "limits for users have no effect, because clients are not asked who they are: nothing verifies credentials",
    );
    in_classic.into_iter().chain(unused).chain(crowd).chain(nobody).map(str::to_owned).collect()
}
