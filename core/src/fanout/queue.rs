//! What one slow connection has yet to be written.

use std::collections::VecDeque;

/// One connection's queue. It exists only while something is in it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub items: VecDeque<Item>,
    pub bytes: usize,
}

/// A part of a stored run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub run: u32,
    pub start: u32,
    pub end: u32,
}
