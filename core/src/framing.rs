//! How what the server says is cut into pieces on its way: frames of a WebSocket, or events of an event stream. Where pieces begin can
//! be seen from the bytes, so whoever sends some of them has to know no more.

use crate::sse;
use crate::ws::deflate::Window;
use crate::ws::encode;

/// How a connection's texts are set apart from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each is a frame of a WebSocket.
    #[default]
    Frames,
    /// The same, compressed.
    Deflated(Window),
    /// Each is an event of a stream about one room, whose id is the position in it.
    Events,
    /// Each is an event of a stream about several rooms. Ids stand by themselves, and name the positions in all of them.
    EventsOfSeveral,
}

impl Framing {
    /// How texts are compressed.
    pub fn window(self) -> Option<Window> {
        match self {
            Framing::Deflated(window) => Some(window),
            Framing::Frames | Framing::Events | Framing::EventsOfSeveral => None,
        }
    }

    /// Whether it is an event stream.
    pub fn is_events(self) -> bool {
        matches!(self, Framing::Events | Framing::EventsOfSeveral)
    }
}

/// Whether a run is one of events: the first byte of a server's frame has its highest bit set (FIN, RFC 6455 §5.2), and events are text.
fn is_of_events(run: &[u8]) -> bool {
    run.first().is_some_and(|byte| *byte < 0x80)
}

/// The offset of the first piece that begins at or after `at`, in a run of whole pieces.
///
/// # Panics
/// If `at` lies beyond the run's end, or the run is not one of whole pieces.
pub(crate) fn next_start(run: &[u8], at: usize) -> usize {
    if is_of_events(run) { sse::next_start(run, at) } else { encode::next_frame_start(run, at) }
}

/// The offset behind the last piece that ends at or before `at`, in a run of whole pieces.
pub(crate) fn last_end(run: &[u8], at: usize) -> usize {
    if is_of_events(run) { sse::last_end(run, at) } else { encode::last_frame_end(run, at) }
}

/// The last piece of a run of whole pieces.
pub(crate) fn last(run: &[u8]) -> &[u8] {
    if is_of_events(run) { sse::last(run) } else { encode::last_frame(run) }
}
