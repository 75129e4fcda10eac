//! The core's hot paths, by instructions under callgrind: `benches/instructions`, which compares them with the committed
//! baseline. Instructions are the same on a busy machine as on a quiet one.

#![expect(missing_docs, reason = "the attribute makes a public module of each function")]

mod paths;

use fanfare_core::Core;
use fanfare_core::time::Time;
use gungraun::{library_benchmark, library_benchmark_group, main};
use paths::{Compressor, Conversation, Room};

/// Buffers and tables that the first turn makes are there.
fn warm(members: usize) -> Box<Room> {
    let mut room = Box::new(Room::of(members));
    for _ in 0..3 {
        room.fan_out(16);
        room.leave_and_join();
    }
    room
}

fn warm_conversation(members: usize) -> Box<Conversation> {
    let mut conversation = Box::new(Conversation::of(members));
    for _ in 0..3 {
        conversation.say();
    }
    conversation
}

fn warm_core() -> Box<Core> {
    let mut core = Box::new(paths::empty());
    for _ in 0..3 {
        paths::handshake(&mut core);
    }
    core
}

#[library_benchmark]
#[bench::to_10(args = (10), setup = warm)]
#[bench::to_1000(args = (1_000), setup = warm)]
fn fan_out(mut room: Box<Room>) -> Box<Room> {
    room.fan_out(1);
    room
}

#[library_benchmark]
#[bench::of_16_to_100(args = (100), setup = warm)]
fn fan_out_joined(mut room: Box<Room>) -> Box<Room> {
    room.fan_out(16);
    room
}

#[library_benchmark]
#[bench::to_1000(args = (1_000), setup = warm)]
fn fan_out_with_laggards(mut room: Box<Room>) -> Box<Room> {
    room.fan_out_with_laggards();
    room
}

#[library_benchmark]
#[bench::of_1000(args = (1_000), setup = warm)]
fn leave_and_join(mut room: Box<Room>) -> Box<Room> {
    room.leave_and_join();
    room
}

#[library_benchmark]
#[bench::to_10(args = (10), setup = warm_conversation)]
fn message(mut conversation: Box<Conversation>) -> Box<Conversation> {
    conversation.say();
    conversation
}

#[library_benchmark]
#[bench::of_a_browser(setup = warm_core)]
fn handshake(mut core: Box<Core>) -> Box<Core> {
    paths::handshake(&mut core);
    core
}

#[library_benchmark]
#[bench::of_100(setup = paths::frames)]
fn decode_frames(mut frames: Vec<u8>) -> usize {
    paths::decode_frames(&mut frames)
}

#[library_benchmark]
#[bench::of_2()]
fn parse_commands() -> usize {
    paths::parse_commands()
}

#[library_benchmark]
#[bench::of_100(setup = paths::pushes)]
fn scan_pushes(pushes: Vec<u8>) -> usize {
    paths::scan_pushes(&pushes)
}

#[library_benchmark]
#[bench::of_1000(args = (1_000), setup = paths::wheel)]
fn turn_wheel(mut wheel: (fanfare_core::wheel::Wheel, Vec<u32>)) -> usize {
    let mut now = Time::ZERO;
    paths::turn_wheel(&mut wheel, &mut now)
}

#[library_benchmark]
#[bench::of_500_bytes(setup = Compressor::new)]
fn deflate(mut compressor: Compressor) -> Compressor {
    compressor.deflate();
    compressor
}

#[library_benchmark]
#[bench::of_500_bytes(setup = Compressor::new)]
fn inflate(mut compressor: Compressor) -> Compressor {
    compressor.inflate();
    compressor
}

library_benchmark_group!(
    name = core;
    benchmarks = fan_out, fan_out_joined, fan_out_with_laggards, leave_and_join, message, handshake, decode_frames,
        parse_commands, scan_pushes, turn_wheel, deflate, inflate
);

main!(library_benchmark_groups = core);
