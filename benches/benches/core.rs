//! The core alone, by time: `cargo bench -p fanfare-benches --bench core`.

mod paths;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_core::time::Time;
use paths::{Compressor, Conversation, Room};
use std::hint::black_box;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for members in [10, 100, 1_000, 10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(members as u64));
        let mut room = Room::of(members);
        group.bench_function(BenchmarkId::new("all_keep_up", members), |b| b.iter(|| room.fan_out(1)));
        if members >= 100 {
            group.bench_function(BenchmarkId::new("one_percent_lags", members), |b| {
                b.iter(|| room.fan_out_with_laggards());
            });
        }
    }
    group.finish();
}

fn clients(c: &mut Criterion) {
    let mut conversation = Conversation::of(10);
    c.bench_function("message_to_ten", |b| b.iter(|| conversation.say()));
    for members in [10, 10_000] {
        let mut room = Room::of(members);
        c.bench_function(&format!("leave_and_join/{members}"), |b| b.iter(|| room.leave_and_join()));
    }
    let mut core = paths::empty();
    c.bench_function("handshake", |b| b.iter(|| paths::handshake(&mut core)));
}

fn codecs(c: &mut Criterion) {
    let mut frames = paths::frames();
    c.bench_function("decode_100_frames", |b| b.iter(|| paths::decode_frames(black_box(&mut frames))));
    c.bench_function("parse_2_commands", |b| b.iter(paths::parse_commands));
    let pushes = paths::pushes();
    c.bench_function("scan_100_pushes", |b| b.iter(|| paths::scan_pushes(&pushes)));
    let mut compressor = Compressor::new();
    c.bench_function("deflate", |b| b.iter(|| compressor.deflate()));
    c.bench_function("inflate", |b| b.iter(|| compressor.inflate()));
    for slots in [1_000, 100_000] {
        let (mut wheel, mut now) = (paths::wheel(slots), Time::ZERO);
        c.bench_function(&format!("turn_wheel/{slots}"), |b| b.iter(|| paths::turn_wheel(&mut wheel, &mut now)));
    }
}

criterion_group! {
    name = benches;
    // The largest rooms take long to build and vary little.
    config = Criterion::default().sample_size(20);
    targets = fan_out, clients, codecs
}
criterion_main!(benches);
