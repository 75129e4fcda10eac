//! The first words on a connection: protocol version, credentials, name, database. It ends with the connection ready
//! for use, or with the reason why it cannot be.

use std::collections::VecDeque;

use super::RedisConfig;
use super::command;
use super::resp::Reply;

/// How much of a server's error text is passed on, in characters. Redis's own are shorter, but for one paragraph on
/// protected mode.
const REASON_CHARS_MAX: usize = 200;

/// If a text holds so many bytes of the password's beginning, it is thought to quote it.
const PASSWORD_QUOTE_BYTES_MIN: usize = 4;

/// What a reply in the set-up answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Auth,
    Select,
    SetName,
    /// The last step in RESP2, where every other may be missing or may fail without harm: is the server willing?
    Check,
    /// Sent along with a `HELLO` that was not understood, and asked again since.
    Moot,
}

/// Whether the set-up is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    Done,
}

/// The steps not answered yet.
#[derive(Debug, Default)]
pub(super) struct Setup {
    awaited: VecDeque<Step>,
}

impl Setup {
    /// Begins in RESP3, all in one write. `HELLO` carries credentials and name.
    pub(super) fn begin(&mut self, config: &RedisConfig, out: &mut Vec<u8>) {
        self.awaited.clear();
        self.awaited.push_back(Step::Hello);
        let name = client_name(config);
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &config.password {
            let username = config.username.as_deref().unwrap_or("default");
            hello.extend([b"AUTH".as_slice(), username.as_bytes(), password.as_bytes()]);
        }
        if !name.is_empty() {
            hello.extend([b"SETNAME".as_slice(), name.as_bytes()]);
        }
        command::command(out, &hello);
        self.select(config, out);
    }

    /// The server speaks RESP2 only: everything `HELLO` would have done, one by one.
    fn begin_again(&mut self, config: &RedisConfig, out: &mut Vec<u8>) {
        self.awaited.iter_mut().for_each(|step| *step = Step::Moot);
        if let Some(password) = &config.password {
            self.awaited.push_back(Step::Auth);
            match &config.username {
                // Before Redis 6 there were no users, and `AUTH` took one argument.
                None => command::command(out, &[b"AUTH", password.as_bytes()]),
                Some(username) => command::command(out, &[b"AUTH", username.as_bytes(), password.as_bytes()]),
            }
        }
        self.select(config, out);
        let name = client_name(config);
        if !name.is_empty() {
            self.awaited.push_back(Step::SetName);
            command::command(out, &[b"CLIENT", b"SETNAME", name.as_bytes()]);
        }
        self.awaited.push_back(Step::Check);
        command::command(out, &[b"PING"]);
    }

    /// Every connection begins in database 0; not asking for it spares users the right to `SELECT`.
    fn select(&mut self, config: &RedisConfig, out: &mut Vec<u8>) {
        if config.database != 0 {
            self.awaited.push_back(Step::Select);
            command::command(out, &[b"SELECT", config.database.to_string().as_bytes()]);
        }
    }

    /// Takes the next reply; the error is the reason, for people, why this connection is of no use.
    pub(super) fn reply(
        &mut self,
        reply: &Reply<'_>,
        config: &RedisConfig,
        out: &mut Vec<u8>,
    ) -> Result<Progress, String> {
        if matches!(reply, Reply::Push(_)) {
            return Ok(Progress::Going);
        }
        let Some(step) = self.awaited.pop_front() else {
            return Err("a reply came during set-up that nothing was asked for".to_owned());
        };
        if let Reply::Error(error) = reply {
            match step {
                Step::Hello if lacks_hello(error) => self.begin_again(config, out),
                Step::Hello => return Err(format!("HELLO refused: {}", shown(error, config))),
                Step::Auth => return Err(format!("AUTH refused: {}", shown(error, config))),
                Step::Select => return Err(format!("SELECT {} refused: {}", config.database, shown(error, config))),
                Step::SetName | Step::Check if is_unwilling(error) => {
                    return Err(format!("set-up refused: {}", shown(error, config)));
                }
                Step::SetName | Step::Check | Step::Moot => {}
            }
        }
        Ok(if self.awaited.is_empty() { Progress::Done } else { Progress::Going })
    }
}

/// Redis refuses spaces, line ends and everything outside printable ASCII in names, and `HELLO` as a whole with them.
fn client_name(config: &RedisConfig) -> String {
    config.client_name.chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect()
}

/// Servers before Redis 6, proxies in front of any, and servers that know `HELLO` but not version 3.
fn lacks_hello(error: &[u8]) -> bool {
    let text = String::from_utf8_lossy(error).to_ascii_lowercase();
    ["unknown command", "unknown or disabled command", "unsupported command"].iter().any(|no| text.contains(no))
        || text.starts_with("noproto")
}

/// Whether this error of Redis's is about the server, which is not ready for anybody, and not about the command that was sent.
pub fn is_unwilling(error: &[u8]) -> bool {
    [b"NOAUTH".as_slice(), b"LOADING", b"MASTERDOWN"].iter().any(|code| error.starts_with(code))
}

/// A server's error text as it may be passed on: printable, of bounded length, and without the password, of which an
/// old server quotes the beginning when it does not know `HELLO` or `AUTH`.
pub(super) fn shown(error: &[u8], config: &RedisConfig) -> String {
    let text = String::from_utf8_lossy(error);
    let text = text.split(", with args").next().unwrap_or_default();
    let quotes_password = |text: &str| {
        config.password.as_deref().is_some_and(|password| {
            let start = &password.as_bytes()[..password.len().min(PASSWORD_QUOTE_BYTES_MIN)];
            !start.is_empty() && text.as_bytes().windows(start.len()).any(|window| window == start)
        })
    };
    let code = text.split(' ').next().unwrap_or_default();
    let safe = [text, code].into_iter().find(|text| !quotes_password(text)).unwrap_or("(text withheld)");
    safe.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_password(password: &str) -> RedisConfig {
        RedisConfig { password: Some(password.to_owned()), ..RedisConfig::default() }
    }

    #[test]
    fn a_quoted_password_is_withheld_even_in_part() {
        let config = with_password("hunter2-hunter2");
        let quoted = b"ERR unknown command `AUTH`, with args beginning with: `hunter2-hu";
        assert_eq!(shown(quoted, &config), "ERR unknown command `AUTH`");
        assert_eq!(shown(b"ERR bad hunter2-hu...", &config), "ERR");
        assert_eq!(shown(b"hunter2-hunter2", &config), "(text withheld)");
        assert_eq!(shown(b"WRONGPASS invalid pair", &config), "WRONGPASS invalid pair");
    }

    #[test]
    fn a_text_is_bounded_and_printable() {
        let text = shown(&[b"ERR \x1b[31m\xff".as_slice(), &[b'x'; 10_000]].concat(), &RedisConfig::default());
        assert_eq!(text.chars().count(), REASON_CHARS_MAX);
        assert!(!text.contains('\x1b'));
    }
}
