//! The ledger finds whatever is planted into logs in which all is well.

use serde_json::{Value, json};

use super::{Account, Figures, Ledger, Told};

const FIRST: &str = "1-00000000000000aa";
const SECOND: &str = "2-00000000000000bb";
const THIRD: &str = "3-00000000000000cc";

fn acknowledged(message: &str, epoch: &str, offset: u64) -> Value {
    json!({"acknowledged": message, "epoch": epoch, "offset": offset})
}

fn since(epoch: &str, offset: u64) -> Value {
    json!({"member": 0, "since": {"epoch": epoch, "offset": offset}})
}

fn subscribed(epoch: &str, offset: u64, recovered: impl Into<Option<bool>>) -> Value {
    let mut text = json!({"type": "SUBSCRIBED", "epoch": epoch, "offset": offset});
    if let Some(recovered) = recovered.into() {
        text["recovered"] = json!(recovered);
    }
    heard(text)
}

fn message(message: &str, offset: u64) -> Value {
    heard(json!({"type": "MESSAGE", "message": message, "offset": offset}))
}

fn trimmed(from: u64, to: u64) -> Value {
    heard(json!({"type": "GAP", "reason": "trimmed", "epoch": FIRST, "from": from, "to": to}))
}

fn ended(reason: &str, fence: u64) -> Value {
    heard(json!({"type": "GAP", "reason": reason, "epoch": SECOND, "previous": FIRST, "fence": fence}))
}

fn heard(text: Value) -> Value {
    json!({"member": 0, "heard": text})
}

fn closed() -> Value {
    json!({"member": 0, "closed": 1006})
}

fn joined() -> Vec<Value> {
    vec![json!({"member": 0, "since": null}), subscribed(FIRST, 0, None)]
}

/// `one` to `six`, at the first six offsets.
fn sent() -> Vec<Value> {
    let names = ["one", "two", "three", "four", "five", "six"];
    names.iter().zip(1..).map(|(name, offset)| acknowledged(name, FIRST, offset)).collect()
}

fn figures(sent: &[Value], heard: &[Value]) -> Figures {
    Ledger::of_senders([sent.to_vec()]).compare([heard.to_vec()])
}

#[track_caller]
fn account(sent: &[Value], heard: &[Value]) -> Account {
    let mut figures = figures(sent, heard);
    assert_eq!(figures.faults(), Vec::<String>::new());
    figures.accounts.pop().expect("of one member")
}

#[track_caller]
fn assert_fault(sent: &[Value], heard: &[Value], fault: &str) {
    let faults = figures(sent, heard).faults();
    assert!(faults.iter().any(|found| found.contains(fault)), "{fault:?} is not among {faults:?}");
}

/// A member that is cut off after the third message and comes back.
fn all_is_well() -> Vec<Value> {
    let mut log = joined();
    log.extend([message("one", 1), message("two", 2), message("three", 3), closed()]);
    log.extend([since(FIRST, 3), subscribed(FIRST, 3, true)]);
    log.extend([message("four", 4), message("five", 5), message("six", 6)]);
    log
}

/// A member that is away until two messages are kept no more.
fn two_are_trimmed() -> Vec<Value> {
    let mut log = joined();
    log.extend([message("one", 1), message("two", 2), closed(), since(FIRST, 2), subscribed(FIRST, 4, false)]);
    log.extend([trimmed(3, 4), message("five", 5), message("six", 6)]);
    log
}

/// `one` and `two` in the first epoch, of which Redis has lost the second, and two in the next.
fn a_loss() -> (Vec<Value>, Vec<Value>) {
    let sent = [("one", FIRST, 1), ("two", FIRST, 2), ("three", SECOND, 2), ("four", SECOND, 3)];
    let mut log = joined();
    log.extend([message("one", 1), message("two", 2), ended("failover", 1), message("three", 2), message("four", 3)]);
    (sent.map(|(message, epoch, offset)| acknowledged(message, epoch, offset)).to_vec(), log)
}

fn places_of_messages(log: &[Value]) -> Vec<usize> {
    (0..log.len()).filter(|index| log[*index]["heard"]["type"] == "MESSAGE").collect()
}

#[test]
fn what_was_heard_once_and_in_order_is_received() {
    let expected = Account { received: 6, returns: 1, ..Account::default() };
    assert_eq!(account(&sent(), &all_is_well()), expected);
}

#[test]
fn any_message_that_is_left_out_is_missing_in_silence() {
    for log in [all_is_well(), two_are_trimmed()] {
        for index in places_of_messages(&log) {
            let mut log = log.clone();
            log.remove(index);
            assert_fault(&sent(), &log, "1 missing in silence");
        }
    }
}

#[test]
fn any_message_that_comes_again_is_repeated() {
    let log = all_is_well();
    for index in places_of_messages(&log) {
        let mut log = log.clone();
        log.insert(index, log[index].clone());
        assert_fault(&sent(), &log, "1 repeated");
    }
}

#[test]
fn any_two_messages_out_of_order_are_found() {
    let log = all_is_well();
    for places in places_of_messages(&log).windows(2) {
        let mut log = log.clone();
        log.swap(places[0], places[1]);
        assert_fault(&sent(), &log, "it does not follow");
        let offsets = [0, 1].map(|index| log[places[index]]["heard"]["offset"].clone());
        [1, 0].into_iter().zip(offsets).for_each(|(index, offset)| log[places[index]]["heard"]["offset"] = offset);
        assert_fault(&sent(), &log, "was heard at");
    }
}

#[test]
fn what_nobody_has_sent_is_found() {
    let mut log = all_is_well();
    log.push(message("seven", 7));
    assert_fault(&sent(), &log, "seven was heard and never acknowledged");
}

#[test]
fn a_message_that_is_stored_twice_is_found() {
    let mut sent = sent();
    sent.push(acknowledged("one", FIRST, 1));
    account(&sent, &all_is_well());
    sent.push(acknowledged("one", FIRST, 7));
    assert_fault(&sent, &all_is_well(), "one is stored twice");
    sent.pop();
    sent.push(acknowledged("another", FIRST, 1));
    assert_fault(&sent, &all_is_well(), "two messages have one place");
}

#[test]
fn what_was_trimmed_is_told_to_the_letter() {
    let log = two_are_trimmed();
    let told = Told { trimmed: 2, ..Told::default() };
    let expected = Account { received: 4, missing: 2, told, returns: 1, repeated: 0 };
    assert_eq!(account(&sent(), &log), expected);

    let gap = log.iter().position(|line| line["heard"]["type"] == "GAP").expect("a gap");
    for (other, fault) in [(trimmed(3, 3), "1 missing in silence"), (trimmed(4, 4), "it does not follow")] {
        let mut log = log.clone();
        log[gap] = other;
        assert_fault(&sent(), &log, fault);
    }
    let mut untold = log.clone();
    untold.remove(gap);
    assert_fault(&sent(), &untold, "it was not told what is missing");
    assert_fault(&sent(), &untold, "2 missing in silence");
    let mut too_much = log[..gap].to_vec();
    too_much.push(trimmed(3, 7));
    assert_fault(&sent(), &too_much, "not all was ever there");
}

#[test]
fn what_redis_has_lost_is_taken_back() {
    let (sent, log) = a_loss();
    let told = Told { failover: 1, ..Told::default() };
    assert_eq!(account(&sent, &log), Account { received: 3, missing: 1, told, ..Account::default() });

    let gap = log.iter().position(|line| line["heard"]["type"] == "GAP").expect("a gap");
    let mut untold = log.clone();
    untold.remove(gap);
    assert_fault(&sent, &untold, "it does not follow");
    let mut harmless = log.clone();
    harmless[gap] = ended("epoch", 2);
    harmless[gap + 1] = message("three", 3);
    assert_fault(&sent, &harmless, "three was heard at");
}

#[test]
fn who_had_not_seen_what_is_lost_is_told_of_the_epoch() {
    let (sent, _) = a_loss();
    let mut log = joined();
    log.extend([message("one", 1), closed(), since(FIRST, 1), subscribed(SECOND, 1, true)]);
    log.extend([message("three", 2), message("four", 3)]);
    let told = Told { epoch: 1, ..Told::default() };
    assert_eq!(account(&sent, &log), Account { received: 3, missing: 1, told, returns: 1, repeated: 0 });

    // What Redis still has is not excused by that.
    let kept = [("one", FIRST, 1), ("two", FIRST, 2), ("three", SECOND, 3)];
    let sent = kept.map(|(message, epoch, offset)| acknowledged(message, epoch, offset));
    let mut log = joined();
    log.extend([message("one", 1), closed(), since(FIRST, 1), subscribed(SECOND, 1, true), message("three", 3)]);
    assert_fault(&sent, &log, "1 missing in silence");
}

#[test]
fn who_was_away_for_a_whole_epoch_is_told_of_the_next() {
    let sent = [("one", FIRST, 1), ("two", SECOND, 2), ("lost", SECOND, 3), ("three", THIRD, 3)];
    let sent = sent.map(|(message, epoch, offset)| acknowledged(message, epoch, offset));
    let third = |previous: &str, reason: &str, fence: u64| {
        heard(json!({"type": "GAP", "reason": reason, "epoch": THIRD, "previous": previous, "fence": fence}))
    };
    let mut there = joined();
    there.extend([message("one", 1), ended("epoch", 1), message("two", 2), message("lost", 3)]);
    there.extend([third(SECOND, "failover", 2), message("three", 3)]);
    let mut away = joined();
    away.extend([message("one", 1), third(FIRST, "epoch", 1), message("two", 2), message("three", 3)]);
    away.iter_mut().for_each(|line| line["member"] = json!(1));
    let of_both = |there: &[Value]| Ledger::of_senders([sent.to_vec()]).compare([[there, &away].concat()]);
    let figures = of_both(&there);
    assert_eq!(figures.faults(), Vec::<String>::new());
    let told = [Told { failover: 1, ..Told::default() }, Told { epoch: 1, ..Told::default() }];
    let expected = told.map(|told| Account { received: 3, missing: 1, told, ..Account::default() });
    assert_eq!(figures.accounts, expected);

    // Of an epoch that led nowhere nobody can have heard.
    let faults = of_both(&there[..5]).faults();
    assert!(faults.iter().any(|fault| fault.contains("two was heard at 2")), "{faults:?}");
}

#[test]
fn a_member_comes_back_with_its_own_position() {
    let mut log = all_is_well();
    let back = log.iter().rposition(|line| line.get("since").is_some()).expect("it comes back");
    log[back] = since(FIRST, 2);
    assert_fault(&sent(), &log, "it does not come back with its position");
    log[back] = since(FIRST, 3);
    log[back + 1] = subscribed(FIRST, 4, true);
    assert_fault(&sent(), &log, "no such answer");
}

#[test]
fn who_has_not_heard_the_end_is_late() {
    let mut log = all_is_well();
    log.push(json!({"late": 1}));
    assert_fault(&sent(), &log, "1 members did not hear the end");
}
