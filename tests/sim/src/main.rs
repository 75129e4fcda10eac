fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let (from, n) = (args.next().unwrap(), args.next().unwrap());
    let t = std::time::Instant::now();
    let mut fails = 0; let mut steps = 0; let mut faults = std::collections::BTreeMap::new(); let mut delivered=0; let mut vt = 0; let mut short=0; let mut published = 0;
    for seed in from..from+n {
        match fanfare_sim::attempt(seed, &Default::default(), &mut fanfare_sim::Trace::off()) {
            Ok(o) => { steps += o.steps; delivered += o.delivered; short+=o.short_writes; published += o.published; vt += o.virtual_micros; for (f, c) in o.faults { *faults.entry(f).or_insert(0) += c; } }
            Err(e) => { fails += 1; let e: String = e.chars().take(300).collect(); println!("seed {seed}: {e}"); }
        }
    }
    println!("{n} seeds, {fails} fail, {steps} steps, {delivered} delivered, {published} published, {short} short, {} s virtual, {:?}", vt/1000000, t.elapsed());
    println!("{faults:?}");
}
