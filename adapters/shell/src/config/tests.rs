//! A table of three keys and an array of tables, of a server that is none: what follows from any table. What Fanfare's own says is tested beside it.

use super::*;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

type Field<T> = super::Field<Tea, T>;

#[derive(Debug, PartialEq)]
struct Tea {
    listen: SocketAddr,
    cups: usize,
    leaf: Leaf,
    guests: Vec<Guest>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Guest {
    name: String,
    lumps: usize,
    milk: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaf {
    Green,
    Black,
}

impl Default for Tea {
    fn default() -> Tea {
        Tea { listen: "127.0.0.1:1".parse().unwrap(), cups: 2, leaf: Leaf::Green, guests: Vec::new() }
    }
}

static SCHEMA: Schema<Tea> = Schema {
    environment_prefix: "TEA_",
    sections: &[("", "Where"), ("pot", "What")],
    keys: &[&[
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
    ]],
    tables: &[&GUESTS],
    questions: &[Question {
        flag: "guest",
        value_name: "NAME",
        help: "What a guest gets",
        answer: |tea, sources, name| match tea.guests.iter().position(|guest| guest.name == name) {
            Some(index) => {
                let Guest { lumps, milk, .. } = tea.guests[index];
                let milk = if milk { " with milk" } else { "" };
                format!("{name}: {lumps}{milk} # {}\n", sources.of_table("guests", index))
            }
            None => format!("{name} is not invited\n"),
        },
    }],
    subcommands: &[Subcommand {
        name: "serve",
        about: "Serve somebody",
        options: &[
            Flag { name: "who", value_name: "NAME", help: "Whom", times: Times::Once },
            Flag { name: "with", value_name: "WHAT", help: "With what", times: Times::Any },
            Flag { name: "when", value_name: "TIME", help: "When", times: Times::AtMostOnce },
        ],
        run: |tea, asked| match asked.one("when") {
            Some("never") => Err(Failed::Work("nobody is served".to_owned())),
            when => {
                let with: Vec<_> = asked.all("with").collect();
                let who = asked.one("who").expect("it has to be given");
                let result = format!("{who} gets {} cups with {with:?} at {when:?}\n", tea.cups);
                Ok(Said { result, hint: "enjoy".to_owned() })
            }
        },
    }],
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

static GUESTS: Tables<Tea, Guest> = Tables {
    name: "guests",
    tables_max: 3,
    keys: &[
        Key {
            name: "name",
            default: "",
            help: "Who comes",
            environment_alias: None,
            kind: &Text {
                bytes_max: 5,
                field: super::Field { get: |guest: &Guest| &guest.name, get_mut: |guest| &mut guest.name },
            },
        },
        Key {
            name: "lumps",
            default: "0",
            help: "How many lumps of sugar",
            environment_alias: None,
            kind: &Number {
                unit: Unit::Count,
                range: 0..=4,
                field: super::Field { get: |guest: &Guest| &guest.lumps, get_mut: |guest| &mut guest.lumps },
            },
        },
        Key {
            name: "milk",
            default: "no",
            help: "Whether with milk",
            environment_alias: None,
            kind: &Choice {
                choices: &[("no", false), ("yes", true)],
                field: super::Field { get: |guest: &Guest| &guest.milk, get_mut: |guest| &mut guest.milk },
            },
        },
    ],
    blank: Guest::default,
    check: |guest| match guest.milk && guest.lumps > 3 {
        true => Err(Fault { key: "milk", wrong: "the cup is full".to_owned(), right: "less sugar".to_owned() }),
        false => Ok(()),
    },
    get: |tea| &tea.guests,
    put: |tea, guests| tea.guests = guests,
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
    let expected = Tea { listen: "127.0.0.1:5".parse().unwrap(), cups: 3, leaf: Leaf::Green, guests: Vec::new() };
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

/// Runs with this file.
fn pour_from(text: &str, arguments: &[&str]) -> Result<Loaded<Tea>, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("fanfare-shell-guests-{}-{number}.toml", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let path_text = path.to_str().unwrap();
    let poured = pour(arguments, &[("TEA_CONFIG", path_text)]).map_err(|error| error.replace(path_text, "FILE"));
    std::fs::remove_file(&path).unwrap();
    poured
}

#[test]
fn a_file_may_have_arrays_of_tables_which_are_printed_as_they_are_read() {
    let text = "[[guests]]\nname = 'ann'\nlumps = 2\n\n[[guests]]\nmilk = 'yes'\nname = \"b\\\"b\"\n[pot]\ncups = 1\n";
    let loaded = pour_from(text, &[]).unwrap();
    let ann = Guest { name: "ann".to_owned(), lumps: 2, milk: false };
    let bob = Guest { name: "b\"b".to_owned(), lumps: 0, milk: true };
    assert_eq!((&loaded.config.guests, loaded.config.cups), (&vec![ann, bob], 1));
    let printed = loaded.to_toml();
    assert!(printed.contains("\n\n[[guests]] # file ") && printed.contains("\nlumps = 0 # default\n"), "{printed}");
    for (line, end) in [("name = \"ann\" # file ", " line 2"), ("milk = \"yes\" # file ", " line 6")] {
        assert!(printed.lines().any(|printed| printed.starts_with(line) && printed.ends_with(end)), "{printed}");
    }
    assert_eq!(pour_from(&printed, &[]).unwrap().config, loaded.config);
    let inline = pour_from("guests = [{ name = 'ann', lumps = 2 }]", &[]).unwrap();
    assert_eq!(inline.config.guests, loaded.config.guests[..1]);
    assert_eq!(pour_from("guests = []", &[]).unwrap().config.guests, []);
    assert_eq!(pour(&[], &[]).unwrap().config.guests, []);
}

#[test]
fn whatever_is_wrong_with_a_table_names_its_number_and_its_first_value() {
    for (text, wrong) in [
        ("[[guests]]\nlumps = 1", "[[guests]] number 1: name\n  from:  file FILE line 1\n  wrong: it is missing\n"),
        (
            "[[guests]]\nname = 'ann'\n[[guests]]\nname = 'bob'\nlumps = 5",
            "[[guests]] number 2 (name = \"bob\"): lumps\n  from:  file FILE line 5\n  wrong: 5 is above the maximum\n  \
             right: a whole number from 0 to 4; default: 0\n",
        ),
        (
            "[[guests]]\nname = 'ann'\nlump = 5",
            "[[guests]] number 1 (name = \"ann\"): lump\n  from:  file FILE line 3\n  wrong: there is no such key\n  \
             right: did you mean lumps?\n",
        ),
        ("[[guests]]\nname = 'ann'\nspoons = 5", "right: the keys are name, lumps, milk\n"),
        (
            "[[guests]]\nname = 'ann'\nlumps = 4\nmilk = 'yes'",
            "[[guests]] number 1 (name = \"ann\"): milk\n  from:  file FILE line 4\n  wrong: the cup is full\n  right: less",
        ),
        (
            "[[guests]]\nname = 'ann'\n[[guests]]\nname = 'bob'\n[[guests]]\nname = \"ann\"",
            "[[guests]] number 3 (name = \"ann\"): name\n  from:  file FILE line 6\n  wrong: number 1 has the same\n",
        ),
        ("[[guests]]\nname = 'a longer one'", "(name = \"a longer one\"): name\n"),
        ("[[guests]]\nname = 3", "[[guests]] number 1: name\n  from:  file FILE line 2\n  wrong: it is a number"),
        (
            "[guests]\nname = 'ann'",
            "guests\n  from:  file FILE line 1\n  wrong: it is a table\n  right: [[guests]], in two",
        ),
        ("guests = ['ann']", "it is an array of other things than tables"),
        ("guests = 1", "it is an integer\n  right: [[guests]], in two"),
        ("[[guest]]\nname = 'ann'", "there is no such array of tables\n  right: did you mean [[guests]]?"),
        ("[[pott]]\ncups = 1", "there is no such array of tables\n  right: did you mean [pot]?"),
        ("[guest]\nname = 'ann'", "there is no such section\n  right: did you mean [[guests]]?"),
        ("[another]\nname = 'ann'", "right: the sections are [pot], [[guests]]\n"),
        (
            "[[guests]]\nname='a'\n[[guests]]\nname='b'\n[[guests]]\nname='c'\n[[guests]]\nname='d'\n[[guests]]\nname='a'",
            "[[guests]]\n  from:  file FILE line 7\n  wrong: there are 5 of them\n  right: at most 3\n",
        ),
    ] {
        let told = pour_from(text, &[]).unwrap_err();
        assert!(told.contains(wrong), "{wrong}\n---\n{told}");
        assert!(!told.contains("places"), "one mistake is told once: {told}");
    }
    let all = pour_from("lisen = 1\n[[guests]]\nname = 'ann'\nlumps = 9\nmilk = 3\n[[guests]]\nspoons = 1", &[]);
    let all = all.unwrap_err();
    assert!(all.contains("wrong in 5 places") && all.contains("[[guests]] number 2: spoons"), "{all}");
}

#[test]
fn questions_are_answered_instead_of_printing_everything() {
    let text = "[[guests]]\nname = 'ann'\nlumps = 2\n[[guests]]\nname = 'bob'\nmilk = 'yes'\n";
    let answers = |arguments: &[&str]| pour_from(text, arguments).unwrap().answers();
    let told = answers(&["check-config", "--guest", "bob", "--guest=eve"]).unwrap();
    assert!(
        told.starts_with("bob: 0 with milk # file ") && told.ends_with(" line 4\n\neve is not invited\n"),
        "{told}"
    );
    assert_eq!((answers(&["check-config"]), answers(&[])), (None, None));
    assert!(pour(&["--guest", "bob"], &[]).unwrap_err().contains("unexpected argument '--guest'"));
    assert!(pour(&["check-config", "--help"], &[]).unwrap_err().contains("--guest <NAME>"));
}

#[test]
fn a_command_is_told_its_flags_and_the_configuration() {
    let said =
        pour(&["serve", "--who", "ann", "--with", "milk", "--pot-cups", "5", "--with=salt"], &[]).unwrap().outcome();
    let result = "ann gets 5 cups with [\"milk\", \"salt\"] at None\n".to_owned();
    assert_eq!(said, Some(Ok(Said { result, hint: "enjoy".to_owned() })));
    let said = pour(&["serve", "--who", "ann", "--when", "never"], &[]).unwrap().outcome();
    assert_eq!(said, Some(Err(Failed::Work("nobody is served".to_owned()))));
    assert_eq!(pour(&["check-config"], &[]).unwrap().outcome(), None);
    assert!(pour(&["serve"], &[]).unwrap_err().contains("--who <NAME>"));
    assert!(pour(&["serve", "--who", "a", "--who", "b"], &[]).unwrap_err().contains("cannot be used multiple times"));
    assert!(pour(&["serve", "--who", "ann", "--pot-cups", "9"], &[]).unwrap_err().contains("9 is above the maximum"));
}
