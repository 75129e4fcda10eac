//! `token`: a token for trying, signed as the server will verify it.

use super::span;
use crate::config::{Config, methods, signing_secret};
use crate::time::unix_ms;
use fanfare_auth::cli::{TokenRequest, minting_key, token};
use fanfare_auth::{Credential, Grants, MintingKey, Secret, SetupError, Source};
use fanfare_core::rules::Pattern;
use fanfare_shell::config::{Asked, Failed, Flag, Said, Subcommand, Times};
use std::fs;

const PATTERNS: &str = "PATTERN";

pub(crate) const TOKEN: Subcommand<Config> = Subcommand {
    name: "token",
    about: "Print a token for trying, signed with the configured secret or by a private key",
    options: &[
        Flag { name: "user", value_name: "NAME", help: "Whom it is for", times: Times::Once },
        Flag {
            name: "subscribe",
            value_name: PATTERNS,
            help: "Rooms that it grants to subscribe to, where a rule says granted; this and the next three may be given several times",
            times: Times::Any,
        },
        Flag { name: "publish", value_name: PATTERNS, help: "Rooms that it grants to publish to", times: Times::Any },
        Flag { name: "history", value_name: PATTERNS, help: "Rooms whose history it grants", times: Times::Any },
        Flag { name: "presence", value_name: PATTERNS, help: "Rooms whose presence it grants", times: Times::Any },
        Flag {
            name: "join",
            value_name: "ROOM",
            help: "A room that its connections join by themselves; may be given several times",
            times: Times::Any,
        },
        Flag {
            name: "info",
            value_name: "JSON",
            help: "What others are told of the user where it is kept who is in a room: at most 1024 bytes",
            times: Times::AtMostOnce,
        },
        Flag {
            name: "for",
            value_name: "SPAN",
            help: "How long it is valid: 90s, 15m, 1h, 30d [default: 1h]",
            times: Times::AtMostOnce,
        },
        Flag {
            name: "audience",
            value_name: "AUDIENCE",
            help: "Its aud [default: the first of auth.audience]",
            times: Times::AtMostOnce,
        },
        Flag { name: "issuer", value_name: "ISSUER", help: "Its iss [default: auth.issuer]", times: Times::AtMostOnce },
        Flag {
            name: "id",
            value_name: "ID",
            help: "Its jti, by which it can be banned [default: a random one]",
            times: Times::AtMostOnce,
        },
        Flag {
            name: "key-file",
            value_name: "PATH",
            help: "A private key as PEM (PKCS#8; P-256, P-384 or Ed25519), in place of the configured secret",
            times: Times::AtMostOnce,
        },
        Flag { name: "key-id", value_name: "ID", help: "The key's kid", times: Times::AtMostOnce },
    ],
    run,
};

fn run(config: &Config, asked: &Asked) -> Result<Said, Failed> {
    let request = request(config, asked)?;
    let (key, now_ms) = (key(config, asked).map_err(Failed::Work)?, unix_ms());
    let token = token(&request, &key, now_ms).map_err(|why| match why {
        SetupError::BadUser | SetupError::BadInfo => Failed::Usage(why.to_string()),
        why => Failed::Work(why.to_string()),
    })?;
    let is_own = asked.one("issuer").is_none() && asked.one("key-file").is_none();
    let refusal = if is_own { refusal(config, &token, now_ms).map_err(Failed::Work)? } else { None };
    let text =
        String::from_utf8(token.expose().to_vec()).map_err(|_| Failed::Work("the token is no text".to_owned()))?;
    let hint = match refusal {
        Some(why) => format!("a server with this configuration refuses it: {why}"),
        None => hint(config, &request),
    };
    Ok(Said { result: text + "\n", hint })
}

fn request(config: &Config, asked: &Asked) -> Result<TokenRequest, Failed> {
    let auth = &config.auth;
    let patterns = |flag: &str| -> Result<Vec<String>, Failed> {
        let checked = |text: &str| match text.parse::<Pattern>() {
            Ok(_) => Ok(text.to_owned()),
            Err(why) => Err(Failed::Usage(format!("--{flag} {text:?}: {why}"))),
        };
        asked.all(flag).map(checked).collect()
    };
    let id = match asked.one("id") {
        Some(id) => id.to_owned(),
        None => {
            let drawn = getrandom::u64();
            format!("{:016x}", drawn.map_err(|error| Failed::Work(format!("the system has no randomness: {error}")))?)
        }
    };
    let own = |flag: &str, configured: Option<&str>| {
        asked.one(flag).or(configured).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    Ok(TokenRequest {
        user: asked.one("user").unwrap_or_default().to_owned(),
        grants: Grants {
            subscribe: patterns("subscribe")?,
            publish: patterns("publish")?,
            history: patterns("history")?,
            presence: patterns("presence")?,
        },
        join: asked.all("join").map(str::to_owned).collect(),
        info: asked.one("info").map(str::to_owned),
        lifetime_s: span::seconds(asked.one("for").unwrap_or("1h")).map_err(Failed::Usage)?,
        issuer: own("issuer", Some(&auth.issuer.name)),
        audience: own("audience", auth.issuer.audience.first().map(|audience| audience.as_str())),
        id: Some(id),
        names: auth.claim_names(),
    })
}

fn key(config: &Config, asked: &Asked) -> Result<MintingKey, String> {
    let key = match asked.one("key-file") {
        Some(path) => {
            let text = fs::read(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
            minting_key(&Secret::new(text)).map_err(|why| format!("{path:?}: {why}"))?
        }
        None => {
            let secret = signing_secret(config).map_err(|error| error.to_string())?.ok_or(
                "there is no secret to sign with: set auth.secret or auth.secret_file (FANFARE_AUTH_SECRET=…), as the server has it, or \
                 give a private key by --key-file",
            )?;
            minting_key(&secret).map_err(|why| why.to_string())?
        }
    };
    Ok(match asked.one("key-id") {
        Some(name) => key.named(name),
        None => key,
    })
}

/// Why a server of this configuration would not take its own token: because of an audience, or of algorithms.
fn refusal(config: &Config, token: &Secret, now_ms: u64) -> Result<Option<String>, String> {
    let (methods, _) = methods(config).map_err(|error| error.to_string())?;
    let Some(verifier) = methods.tokens else { return Ok(None) };
    let outcome = verifier.verify(&Credential::new(token.clone(), Source::Header), now_ms);
    Ok(outcome.err().map(|refusal| refusal.to_string()))
}

/// How to show it, by what clients may use.
fn hint(config: &Config, request: &TokenRequest) -> String {
    let core = &config.auth.core;
    let query = core.query.as_ref().map(|field| format!("ws://{}/?{field}=$TOKEN", config.listen));
    let ways = [
        core.header.then(|| "Authorization: Bearer $TOKEN".to_owned()),
        query,
        core.subprotocol.then(|| "Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.$TOKEN".to_owned()),
        core.command.then(|| r#"{"type":"AUTH","token":"$TOKEN"}"#.to_owned()),
    ];
    let ways: Vec<String> = ways.into_iter().flatten().map(|way| format!("\n  {way}")).collect();
    let (user, id) = (&request.user, request.id.as_deref().unwrap_or_default());
    format!("for {user:?}, with the id {id:?}; it is shown in any of these ways:{}", ways.concat())
}
