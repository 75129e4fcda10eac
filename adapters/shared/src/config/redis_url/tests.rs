//! URLs in every form, and what is said of wrong ones.

use super::*;

fn parse(url: &str) -> Result<RedisTarget, RedisUrlError> {
    url.parse()
}

fn tcp(host: &str, port: u16, user: Option<&str>, password: Option<&str>, database: u32) -> RedisTarget {
    RedisTarget {
        topology: Topology::Single(Address::Tcp { host: host.to_owned(), port }),
        tls: false,
        username: user.map(str::to_owned),
        password: password.map(|password| Password(password.to_owned())),
        database,
    }
}

#[test]
fn tcp_urls_in_every_form() {
    assert_eq!(parse("redis://localhost"), Ok(tcp("localhost", 6379, None, None, 0)));
    assert_eq!(parse("valkey://:p,w@h"), Ok(tcp("h", 6379, None, Some("p,w"), 0)));
    assert_eq!(parse("REDIS://my_redis.internal:7000/"), Ok(tcp("my_redis.internal", 7000, None, None, 0)));
    assert_eq!(parse("redis://10.0.0.1:7000/15"), Ok(tcp("10.0.0.1", 7000, None, None, 15)));
    assert_eq!(parse("redis://[::1]:7000/2"), Ok(tcp("::1", 7000, None, None, 2)));
    assert_eq!(parse("redis://[fe80::2]"), Ok(tcp("fe80::2", 6379, None, None, 0)));
    assert_eq!(parse("redis://:pw@h"), Ok(tcp("h", 6379, None, Some("pw"), 0)));
    assert_eq!(parse("redis://@h"), Ok(tcp("h", 6379, None, None, 0)));
    assert_eq!(parse("redis://me:p:w@h:1/3"), Ok(tcp("h", 1, Some("me"), Some("p:w"), 3)));
    assert_eq!(parse("redis://m%40e:p%2F%25%C3%A9@h"), Ok(tcp("h", 6379, Some("m@e"), Some("p/%é"), 0)));
    assert_eq!(parse("redis://me:p@w@h"), Ok(tcp("h", 6379, Some("me"), Some("p@w"), 0)));
}

#[test]
fn sentinel_urls_in_every_form() {
    let watched = |hosts: &[(&str, u16)], password: Option<&str>, database| {
        let sentinels = hosts.iter().map(|(host, port)| Address::Tcp { host: (*host).to_owned(), port: *port });
        let topology = Topology::Sentinel { sentinels: sentinels.collect(), master: "mymaster".to_owned() };
        Ok(RedisTarget { topology, ..tcp("", 0, password.map(|_| "me"), password, database) })
    };
    assert_eq!(parse("redis-sentinel://a/mymaster"), watched(&[("a", 26379)], None, 0));
    assert_eq!(
        parse("redis+sentinel://a:1,[::1]:2,c/mymaster/3"),
        watched(&[("a", 1), ("::1", 2), ("c", 26379)], None, 3)
    );
    assert_eq!(parse("sentinel://me:p,w@a,b/mymaster/"), watched(&[("a", 26379), ("b", 26379)], Some("p,w"), 0));
}

#[test]
fn cluster_urls_in_every_form() {
    let parted = |hosts: &[(&str, u16)], password: Option<&str>| {
        let nodes = hosts.iter().map(|(host, port)| Address::Tcp { host: (*host).to_owned(), port: *port });
        let topology = Topology::Cluster { nodes: nodes.collect(), partitions: 256, pubsub: ClusterPubSub::Sharded };
        Ok(RedisTarget { topology, ..tcp("", 0, password.map(|_| "me"), password, 0) })
    };
    assert_eq!(parse("redis-cluster://a"), parted(&[("a", 6379)], None));
    assert_eq!(parse("redis-cluster://a:1,[::1]:2,c/"), parted(&[("a", 1), ("::1", 2), ("c", 6379)], None));
    assert_eq!(parse("redis+cluster://me:p,w@a,b/0"), parted(&[("a", 6379), ("b", 6379)], Some("p,w")));
    assert!(parse("rediss-cluster://a").is_ok_and(|target| target.tls));
}

#[test]
fn unix_urls_in_every_form() {
    let path = |url: &str| match parse(url).unwrap().topology {
        Topology::Single(Address::Unix { path }) => path.into_os_string().into_string().unwrap(),
        _ => panic!("{url} is a path"),
    };
    assert_eq!(path("unix:///run/redis.sock"), "/run/redis.sock");
    assert_eq!(path("redis+unix:///run/redis.sock"), "/run/redis.sock");
    assert_eq!(path("redis+socket:///run/redis.sock"), "/run/redis.sock");
    assert_eq!(path("unix:/run/a%20b.sock"), "/run/a b.sock");
    assert_eq!(path("unix:redis.sock"), "redis.sock");
    let target = parse("unix:///s?db=3&user=me&pass=p%26w").unwrap();
    assert_eq!((target.username.as_deref(), target.database), (Some("me"), 3));
    assert_eq!(target.password.unwrap().expose(), "p&w");
}

#[test]
fn wrong_urls_say_what_is_wrong() {
    use RedisUrlError::*;
    let many = format!("redis-sentinel://a{}/mymaster", ",a".repeat(SENTINELS_MAX));
    let nodes = format!("redis-cluster://a{}", ",a".repeat(CLUSTER_NODES_MAX));
    let long = format!("unix:///{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
    for (url, error) in [
        ("", NoScheme),
        ("localhost", NoScheme),
        ("localhost:6379", NoScheme),
        ("redis:localhost", NoScheme),
        ("rediss:h", NoScheme),
        ("redis-sentinel://h:26379", NoMaster),
        ("redis+sentinel://h/", NoMaster),
        ("redis-sentinel://h//0", NoMaster),
        ("redis-sentinel://h/my%20master", BadMaster),
        ("redis-sentinel://h/mymaster/first", BadDatabase),
        ("redis-sentinel://a,/mymaster", NoHost),
        (&many, ManySentinels),
        ("redis-cluster:h", NoScheme),
        ("redis-cluster://", NoHost),
        ("redis-cluster://a,", NoHost),
        ("redis-cluster://a/1", ClusterDatabase),
        ("redis-cluster://a/mymaster", BadDatabase),
        ("redis-cluster://me@a", UserWithoutPassword),
        (&nodes, ManyNodes),
        ("valkey-cluster://a", UnknownScheme),
        ("redis://a,b", SeveralHosts),
        ("redis://:p@a:6379,b:6380/1", SeveralHosts),
        ("http://h", UnknownScheme),
        ("redis://", NoHost),
        ("redis://:6379", NoHost),
        ("redis:///1", NoHost),
        ("redis://a b", BadHost),
        ("redis://::1", NoHost),
        ("redis://[::1", BadHost),
        ("redis://[::1]x", BadHost),
        ("redis://[nine]", BadHost),
        ("redis://h:0", BadPort),
        ("redis://h:65536", BadPort),
        ("redis://h:+1", BadPort),
        ("redis://h:1:2", BadPort),
        ("redis://h/first", BadDatabase),
        ("redis://h/-1", BadDatabase),
        ("redis://h/1/2", BadDatabase),
        ("redis://h/4294967295", BadDatabase),
        ("redis://me:100%@h", BadEscape),
        ("redis://me:%ff@h", BadEscape),
        ("redis://me@h", UserWithoutPassword),
        ("redis://me:***@h", MaskedPassword),
        ("redis://h?db=1", Query),
        ("redis://h#1", Fragment),
        ("unix:", NoPath),
        ("unix://", NoPath),
        ("unix://run/redis.sock", UnixHost),
        (&long, LongPath),
        ("unix:///s?db=x", BadDatabase),
        ("unix:///s?database=1", UnknownParameter),
        ("unix:///s?pass", UnknownParameter),
        ("unix:///s?user=me", UserWithoutPassword),
    ] {
        assert_eq!(parse(url), Err(error), "{url}");
    }
}

#[test]
fn an_address_is_named_as_people_write_it() {
    for (url, name) in [
        ("redis://me:hunter2@h", "h:6379"),
        ("redis://[::1]:7000", "[::1]:7000"),
        ("unix:///run/redis.sock?pass=hunter2", "/run/redis.sock"),
    ] {
        assert_eq!(parse(url).unwrap().topology.to_string(), name);
    }
}

#[test]
fn no_form_shows_the_password() {
    for (url, shown) in [
        ("redis://m%40e:hunter2@[::1]:7000/3", "redis://m%40e:***@[::1]:7000/3"),
        ("redis://:hunter2@h", "redis://:***@h:6379/0"),
        ("redis://h", "redis://h:6379/0"),
        ("rediss://:hunter2@h", "rediss://:***@h:6379/0"),
        ("rediss-sentinel://a/m", "rediss-sentinel://a:26379/m/0"),
        ("redis-sentinel://me:hunter2@a,[::1]:7/m/3", "redis-sentinel://me:***@a:26379,[::1]:7/m/3"),
        ("rediss-cluster://:hunter2@a/0", "rediss-cluster://:***@a:6379"),
        ("redis-cluster://me:hunter2@a,[::1]:7", "redis-cluster://me:***@a:6379,[::1]:7"),
        ("unix:///run/a%20b?db=1&user=me&pass=hunter2", "unix:///run/a%20b?db=1&user=me&pass=***"),
        ("unix:redis.sock", "unix:redis.sock?db=0"),
    ] {
        let target = parse(url).unwrap();
        assert_eq!(target.to_string(), shown);
        assert!(!format!("{target:?}").contains("hunter2"), "{target:?}");
        let again = parse(&shown.replace("***", "hunter2")).unwrap();
        assert_eq!(again, target, "what is printed reads back");
    }
}
