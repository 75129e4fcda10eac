//! Seeds that once found something, or the one in `SEED`.
use fanfare_sim::{Narrowed, Trace, attempt, examine};
#[test]
fn replay() { let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap(); let n: Narrowed = std::env::var("NARROWED").unwrap_or_default().parse().unwrap(); let r = attempt(seed, &n, &mut Trace::printing(60)); println!("{r:?}"); let _ = examine; }
