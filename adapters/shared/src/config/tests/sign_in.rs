//! How to sign in at Redis and at Sentinels, from the URL and from beside it.

use super::*;

const SENTINEL_URL: [&str; 2] = ["--redis-url", "redis-sentinel://h/mymaster"];

fn password(sign_in: &fanfare_auth::SignIn) -> Option<String> {
    let password = sign_in.password().expect("it can be read")?;
    Some(String::from_utf8(password.expose().to_vec()).unwrap())
}

#[test]
fn every_key_reaches_its_place() {
    let file = TomlFile::new("of redis\r\n");
    let config = loaded(
        &["--redis-url", "redis-sentinel://h/mymaster", "--redis-password-file", file.path()],
        &[("FANFARE_REDIS_USERNAME", "app"), ("FANFARE_REDIS_SENTINEL_PASSWORD", "of sentinels")],
    );
    let [redis, sentinels] = [config.redis.sign_in(), config.redis.sentinel_sign_in()];
    assert_eq!((redis.username.as_deref(), password(&redis).as_deref()), (Some("app"), Some("of redis")));
    assert_eq!((sentinels.username.as_deref(), password(&sentinels).as_deref()), (None, Some("of sentinels")));

    let text = format!(
        "[redis]\nurl = 'redis-sentinel://me:p%40w@h/mymaster'\nsentinel_username = 'watch'\nsentinel_password_file = '{}'",
        file.path()
    );
    let config = loaded(&["--config", TomlFile::new(&text).path()], &[]);
    let [redis, sentinels] = [config.redis.sign_in(), config.redis.sentinel_sign_in()];
    assert_eq!((redis.username.as_deref(), password(&redis).as_deref()), (Some("me"), Some("p@w")));
    assert_eq!((sentinels.username.as_deref(), password(&sentinels).as_deref()), (Some("watch"), Some("of redis")));
    // A user beside the password in the URL.
    let config = loaded(&["--redis-url", "redis://:pw@h", "--redis-username", "app"], &[]);
    assert_eq!(
        (config.redis.sign_in().username, password(&config.redis.sign_in())),
        (Some("app".to_owned()), Some("pw".to_owned()))
    );
}

#[test]
fn what_is_given_twice_or_for_nothing_is_told() {
    let file = TomlFile::new("secret");
    let path = file.path();
    let (one, user, with_file) = ("redis://h", "--redis-username", "--redis-password-file");
    let (sentinel_user, sentinel_file) = ("--redis-sentinel-username", "--redis-sentinel-password-file");
    for (arguments, key, why) in [
        (vec![user, "app"], "redis.username", "there is no redis.url"),
        (vec![with_file, path], "redis.password_file", "there is no redis.url"),
        (vec!["--redis-url", "redis://me:pw@h", user, "app"], "redis.username", "names a user as well"),
        (vec!["--redis-url", "redis://:pw@h", with_file, path], "redis.password_file", "holds a password as well"),
        (vec!["--redis-url", one, user, "app"], "redis.username", "a user without a password"),
        (vec!["--redis-url", one, sentinel_user, "app"], "redis.sentinel_username", "no URL names Sentinels"),
        (vec!["--redis-url", one, sentinel_file, path], "redis.sentinel_password_file", "no URL names Sentinels"),
        (
            vec!["--redis-url", one, "--redis-sentinel-password", "pw"],
            "redis.sentinel_password",
            "no URL names Sentinels",
        ),
        ([&SENTINEL_URL[..], &[sentinel_user, "app"]].concat(), "redis.sentinel_username", "a user without a password"),
        (
            [&SENTINEL_URL[..], &["--redis-sentinel-password", "pw", sentinel_file, path]].concat(),
            "redis.sentinel_password_file",
            "is a password as well",
        ),
    ] {
        let text = error(&arguments, &[]);
        assert_says(&text, &[&format!("\n{key}\n"), why]);
        assert!(!text.contains("secret") || text.contains("secret_"), "{text}");
    }
}

#[test]
fn files_without_a_password_are_named_and_not_quoted() {
    let missing = error(&["--redis-url", "redis://h", "--redis-password-file", "/nowhere/password"], &[]);
    assert_says(&missing, &["\nredis.password_file\n", "cannot read /nowhere/password: No such file"]);
    let empty = TomlFile::new("\n");
    let told = error(&[&SENTINEL_URL[..], &["--redis-sentinel-password-file", empty.path()]].concat(), &[]);
    assert_says(&told, &["\nredis.sentinel_password_file\n", &format!("{} holds no password", empty.path())]);
    let binary = TomlFile::new("");
    fs::write(binary.path(), b"hunter2\xff").unwrap();
    let told = error(&["--redis-url", "redis://h", "--redis-password-file", binary.path()], &[]);
    assert!(told.contains("is no UTF-8") && !told.contains("hunter2"), "{told}");
}

#[test]
fn no_password_is_shown() {
    let loaded = try_load(&SENTINEL_URL, &[("FANFARE_REDIS_SENTINEL_PASSWORD", "hunter2")]).unwrap();
    let printed = loaded.to_toml();
    assert!(!format!("{loaded:?}{printed}").contains("hunter2"), "{loaded:?}\n{printed}");
    assert_says(&printed, &["sentinel_password = \"***\" # environment variable FANFARE_REDIS_SENTINEL_PASSWORD\n"]);
    let back = error(&["--config", TomlFile::new(&printed).path()], &[]);
    assert_says(&back, &["\nredis.sentinel_password\n", "which check-config prints in place of the real one"]);
}

#[test]
fn bans_and_sessions_are_looked_for_behind_sentinels_too() {
    let secret = ("FANFARE_AUTH_SECRET", "a secret of thirty-two bytes or more");
    let config = loaded(&SENTINEL_URL, &[secret]);
    assert!(bans_store(&config).unwrap().is_some());
    let sessions = [
        "--auth-cookie",
        "sid",
        "--auth-session-secret",
        "a secret",
        "--auth-session-redis-url",
        "redis-sentinel://h/sessions",
        "--redis-sentinel-password",
        "for whichever Sentinels",
    ];
    assert!(methods(&loaded(&sessions, &[])).is_ok());
}
