//! A rule bounds the members of its rooms on one instance.

use fanfare_tests::{Client, Server};

#[test]
fn a_full_room_is_told_of_and_counted_until_a_member_goes() {
    let rules = "[[rooms]]\nmatch = \"small:*\"\nmembers_max = 2\n";
    let server = Server::launch().workers(1).file(rules).ops().start();
    let mut members = [(); 2].map(|()| Client::member(&server, "small:1"));
    let mut late = Client::connect_to(server.address(), "/ws?room=small:1");
    assert_eq!(late.expect_error("room_full")["room"], "small:1");
    assert_eq!(Client::connect_to(server.address(), "/broadcast/small:1").recv_close(), 1013);
    late.subscribe("small:2");
    assert_eq!(server.metrics().value("fanfare_members_refused_total"), 2.0);

    members[0].unsubscribe("small:1");
    late.subscribe("small:1");
    late.publish("small:1", "1");
    for member in [&mut members[1], &mut late] {
        member.expect_message("small:1", "1");
    }
}
