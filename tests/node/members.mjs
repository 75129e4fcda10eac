// Members of one room, by the npm package `ws`, at one server or at several: node members.mjs <url> [<url> …]

import assert from "node:assert/strict";
import { Client, run } from "./client.mjs";

await run(async (...urls) => {
  const members = [];
  for (const url of [...urls, ...urls]) members.push(await Client.connect(`${url}/ws`));
  for (const member of members) {
    member.send(JSON.stringify({ type: "SUBSCRIBE", room: "lobby", id: "join" }));
    await member.expect('{"type":"SUBSCRIBED","room":"lobby","id":"join"}');
  }

  const values = ["Hello", "", "😀 é", { nested: [1, 2.5, null, true] }, 17, null, "x".repeat(1_000_000)];
  for (const [index, value] of values.entries()) {
    members[index % members.length].send(JSON.stringify({ type: "SEND_MESSAGE", roomId: "lobby", message: value }));
    const text = JSON.stringify({ type: "MESSAGE", room: "lobby", message: value });
    for (const member of members) await member.expect(text);
  }

  // A burst arrives whole and in order.
  for (let number = 0; number < 500; number += 1) {
    members[0].send(JSON.stringify({ type: "SEND_MESSAGE", roomId: "lobby", message: number }));
  }
  for (const member of members) {
    for (let number = 0; number < 500; number += 1) {
      await member.expect(`{"type":"MESSAGE","room":"lobby","message":${number}}`);
    }
  }

  // A ping is answered, and once.
  const [first] = members;
  const pongs = [];
  first.socket.on("pong", (data) => pongs.push(data.toString()));
  first.socket.ping("are you there?");
  first.send('{"type":"PING","id":5}');
  await first.expect('{"type":"PONG","id":5}');
  first.send("nonsense");
  assert.equal(JSON.parse(await first.next()).code, "bad_json");
  assert.deepEqual(pongs, ["are you there?"]);

  for (const member of members) assert.equal(await member.close(), 1000);
});
