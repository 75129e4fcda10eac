//! A table of three keys, of a server that is none: what follows from any table. What Fanfare's own says is tested beside it.

use super::*;
use std::ffi::OsString;
use std::net::SocketAddr;

type Field<T> = super::Field<Tea, T>;

#[derive(Debug, PartialEq)]
struct Tea {
    listen: SocketAddr,
    cups: usize,
    leaf: Leaf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaf {
    Green,
    Black,
}

impl Default for Tea {
    fn default() -> Tea {
        Tea { listen: "127.0.0.1:1".parse().unwrap(), cups: 2, leaf: Leaf::Green }
    }
}

static SCHEMA: Schema<Tea> = Schema {
    environment_prefix: "TEA_",
    sections: &[("", "Where"), ("pot", "What")],
    keys: &[
        Key {
            name: "listen",
            default: "127.0.0.1:1",
            help: "Where tea is served",
            environment_alias: None,
            kind: &Address { field: Field { get: |tea| &tea.listen, get_mut: |tea| &mut tea.listen } },
        },
        Key {
            name: "pot.cups",
            default: "2",
            help: "How many cups a pot holds",
            environment_alias: Some("CUPS"),
            kind: &Number {
                unit: Unit::Count,
                range: 1..=8,
                field: Field { get: |tea| &tea.cups, get_mut: |tea| &mut tea.cups },
            },
        },
        Key {
            name: "pot.leaf",
            default: "green",
            help: "What is in it",
            environment_alias: None,
            kind: &Choice {
                choices: &[("green", Leaf::Green), ("black", Leaf::Black)],
                field: Field { get: |tea| &tea.leaf, get_mut: |tea| &mut tea.leaf },
            },
        },
    ],
    port: Some(PortVariable {
        variable: "TEA_TIME",
        key: "listen",
        set: |tea, port| tea.listen.set_port(port),
        right: "a port",
    }),
    help: Help {
        about: "Settings of tea.",
        examples: "Try:\n  PROGRAM",
        short: &["listen"],
        misplaced_url: "tea has no URL",
        foreign_flags: (&["--coffee"], "there is tea"),
    },
};

const PROGRAM: Program = Program { name: "teapot", about: "A teapot.", version: "1.2.3" };

fn pour(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Loaded<Tea>, String> {
    let arguments = ["teapot"].iter().chain(arguments).map(OsString::from);
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    let check = |tea: &Tea, sources: &Sources<Tea>| {
        let least = if tea.leaf == Leaf::Black { 4 } else { 1 };
        let rule = Rule { key: "pot.cups", value: tea.cups, least, than: "pot.leaf", why: "black tea is for many" };
        rule.problem(sources).into_iter().collect()
    };
    load(&SCHEMA, &PROGRAM, arguments, environment, check).map_err(|stop| match stop {
        Stop::CommandLine(error) => error.to_string(),
        Stop::Config(error) => error.to_string(),
    })
}

#[test]
fn each_key_has_a_flag_a_variable_and_a_line_in_the_file() {
    let loaded = pour(&["--pot-cups", "3"], &[("TEA_POT_LEAF", "green"), ("TEA_TIME", "5")]).unwrap();
    let expected = Tea { listen: "127.0.0.1:5".parse().unwrap(), cups: 3, leaf: Leaf::Green };
    assert_eq!(loaded.config, expected);
    assert_eq!(
        loaded.to_toml(),
        "listen = \"127.0.0.1:5\" # environment variable TEA_TIME\n\
         \n[pot]\n\
         cups = 3 # flag --pot-cups\n\
         leaf = \"green\" # environment variable TEA_POT_LEAF\n"
    );
    let path = std::env::temp_dir().join(format!("fanfare-shell-tea-{}.toml", std::process::id()));
    std::fs::write(&path, loaded.to_toml()).unwrap();
    let again = pour(&[], &[("TEA_CONFIG", path.to_str().unwrap())]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(again.unwrap().config, expected);
    assert_eq!(pour(&["check-config"], &[("CUPS", "4")]).unwrap().config.cups, 4);
}

#[test]
fn what_is_wrong_is_told_in_the_words_of_the_table() {
    let wrong = pour(&["--pot-leaf", "black"], &[("CUPS", "3")]).unwrap_err();
    for part in ["teapot: the configuration is wrong", "3 is too small beside pot.leaf (flag --pot-leaf): black tea is"]
    {
        assert!(wrong.contains(part), "{wrong}");
    }
    let wrong = pour(&[], &[("TEA_POT_CUPS", "9"), ("TEA_TIME", "five")]).unwrap_err();
    for part in
        ["wrong in 2 places", "a whole number from 1 to 8; default: 2", "\"five\" is not a port\n  right: a port"]
    {
        assert!(wrong.contains(part), "{wrong}");
    }
    assert!(pour(&["--coffee"], &[]).unwrap_err().contains("there is no --coffee; there is tea"));
    assert!(pour(&["tea://pot"], &[]).unwrap_err().contains("tea has no URL"));
    assert!(pour(&["--version"], &[]).unwrap_err().contains("teapot 1.2.3"));
    let warnings = pour(&[], &[("TEA_POT_CUP", "1")]).unwrap().warnings;
    assert_eq!(warnings, ["the environment variable TEA_POT_CUP means nothing; did you mean TEA_POT_CUPS?"]);
}

#[test]
fn help_is_made_of_the_table() {
    let (help, short) = (pour(&["--help"], &[]).unwrap_err(), pour(&["-h"], &[]).unwrap_err());
    for part in ["Settings of tea.", "Try:\n  teapot", "--pot-cups <COUNT>", "[default: 2]", "Where:", "What:"] {
        assert!(help.contains(part), "{part:?} is not in:\n{help}");
    }
    assert!(short.contains("--listen <IP:PORT>") && !short.contains("--pot-cups"), "{short}");
}
