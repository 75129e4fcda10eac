//! Bytes to steps: one byte says which, few more say whom, so that a change of one byte is a change of one thing.

use arbitrary::{Result, Unstructured};

/// Longer histories say nothing new, and take their time.
const STEPS_MAX: usize = 300;

/// Reads steps until the bytes end.
pub(super) fn steps<'a, S>(bytes: &mut Unstructured<'a>, read: impl Fn(&mut Unstructured<'a>) -> Result<S>) -> Vec<S> {
    let mut steps = Vec::new();
    while !bytes.is_empty() && steps.len() < STEPS_MAX {
        // Where the bytes do not suffice, there is no step any more.
        let Ok(step) = read(bytes) else { break };
        steps.push(step);
    }
    steps
}

/// Some bytes: their number, which is small, and then they.
pub(super) fn short<'a>(bytes: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = usize::from(bytes.arbitrary::<u8>()?) % 64;
    bytes.bytes(length.min(bytes.len()))
}
