//! `[[hooks]]`, and the rules that name them.

use super::*;

/// A file with a secret, and the table of a hook that it signs for.
fn table(secret: &str, more: &str) -> (TomlFile, String) {
    let secret = TomlFile::new(secret);
    let table = format!("[[hooks]]\nname = 'a'\nurl = 'https://b/c?d=e'\nsecret_file = '{}'\n{more}\n", secret.path());
    (secret, table)
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
const RULE: &str = "[[rooms]]\nmatch = 'x'\nbefore_publish = 'a'\n";

fn refused(text: &str) -> String {
    let file = TomlFile::new(text);
    error(&["--config", file.path()], &[])
}

#[test]
fn a_hook_is_read_and_shown_without_its_query() {
    let (_secret, hook) = table(SECRET, "timeout_ms = 50\nfail = 'open'\nconcurrency = 3");
    let file = TomlFile::new(&(hook + RULE));
    let loaded = try_load(&["--config", file.path()], &[]).unwrap();
    let hook = &loaded.config.hooks[0];
    assert_eq!((hook.timeout, hook.fail, hook.concurrency), (Duration::from_millis(50), Fail::Open, 3));
    assert_eq!(loaded.config.core.rules.get(0).unwrap().before_publish.as_deref(), Some("a"));
    assert_says(&loaded.to_toml(), &["\n[[hooks]] # file ", "url = \"https://b/c?***\" ", "before_publish = \"a\" "]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn what_is_wrong_with_one_is_told_before_the_start() {
    let (_secret, good) = table(SECRET, "");
    let (_short, short) = table("whsec_MfKQ9r8G", "");
    for (text, wrong) in [
        (short, "it is no secret of 24 to 64 bytes"),
        (good.replace("https://b", "http://b"), "http for this machine alone"),
        (good.replace("https://b", "https://u:p@b"), "without user and password"),
        (good.replace("name = 'a'", "name = ''"), "it is empty"),
        (good.replace("secret_file", "ca_file"), "it is missing"),
        ("[[hooks]]\nname = 'a'\nurl = 'https://b'\nsecret_file = '/no/such'".to_owned(), "cannot read /no/such"),
        (good.clone() + &good, "number 1 has the same"),
        (good.clone() + &RULE.replace("'a'", "'b'"), "there is no hook named"),
    ] {
        assert_says(&refused(&text), &[wrong]);
    }
    for right in
        [good.replace("https://b", "http://localhost:1"), good.replace("https://b", "http://b") + "plaintext = 'on'\n"]
    {
        let file = TomlFile::new(&(right + RULE));
        loaded(&["--config", file.path()], &[]);
    }
    let file = TomlFile::new(&good);
    let warnings = try_load(&["--config", file.path()], &[]).unwrap().warnings;
    assert_eq!(warnings, ["[[hooks]] number 1 (name = \"a\") is not used: no rule names it, and it has no events"]);
}
