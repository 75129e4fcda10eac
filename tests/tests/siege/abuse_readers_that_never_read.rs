//! Members of a busy room that never read: what is kept for them stays within its limits, and nobody waits for them.

use fanfare_tests::abuse::Siege;
use fanfare_tests::{Client, RawClient, Server};

const OUTBOX_BYTES_MAX: usize = 256 << 10;
const OUTBOX_TOTAL_BYTES_MAX: u64 = 2 << 20;
const ROOMS: usize = 8;
const IDLERS_PER_ROOM: usize = 5;

fn idler(server: &Server, room: &str) -> RawClient {
    let mut client = RawClient::upgraded(server.address());
    client.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
    assert!(client.recv_text().contains("SUBSCRIBED"));
    client
}

#[test]
fn they_are_closed_one_and_all_while_their_rooms_are_busy() {
    let server = Server::launch()
        .flag("--limits-outbox-bytes-max", OUTBOX_BYTES_MAX)
        .flag("--limits-outbox-total-bytes-max", OUTBOX_TOTAL_BYTES_MAX)
        .flag("--timeouts-close-ms", 300)
        .ops()
        .start();
    // The budget of all is kept at a turn's end; within the turn the run of each room comes on top.
    Siege::lay(&server, 2 * OUTBOX_TOTAL_BYTES_MAX, |siege| {
        let rooms: Vec<String> = (0..ROOMS).map(|room| format!("busy {room}")).collect();
        let idlers: Vec<RawClient> =
            rooms.iter().flat_map(|room| (0..IDLERS_PER_ROOM).map(|_| idler(&server, room))).collect();
        let message = format!("\"{}\"", "x".repeat(60_000));
        let mut talkers: Vec<Client> = Vec::new();
        let mut said = 0;
        loop {
            // New ones now and then, for one alone may say only so much: 20 of these messages are 1.2 MB.
            if said % 20 == 0 {
                talkers = rooms.iter().map(|room| Client::member(&server, room)).collect();
            }
            for (room, talker) in rooms.iter().zip(&mut talkers) {
                talker.publish(room, &message);
                talker.expect_message(room, &message);
            }
            said += 1;
            let metrics = server.metrics();
            let kept = metrics.value("fanfare_stored_frame_bytes");
            assert!(kept <= OUTBOX_TOTAL_BYTES_MAX as f64, "{kept} bytes are kept");
            if metrics.value("fanfare_slow_closes_total") == idlers.len() as f64 {
                break;
            }
            assert!(said < 1_000, "a thousand messages to each room were not enough");
        }
        siege.last();
    });
}
