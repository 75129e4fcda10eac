// Members at two instances, by the npm package `ws`: node two_instances.mjs <url of one> <url of the other>

import assert from "node:assert/strict";
import { Client, run } from "./client.mjs";

await run(async (one, two) => {
  const first = await Client.connect(`${one}/ws`);
  const second = await Client.connect(two);
  const offering = await Client.connect(`${two}/ws`, ["chat", "fanfare.v1"]);
  assert.equal(first.socket.protocol, "");
  assert.equal(offering.socket.protocol, "fanfare.v1");
  // ws offers compression by default.
  assert.equal(first.socket.extensions, "permessage-deflate");

  const members = [first, second, offering];
  for (const member of members) {
    member.send(JSON.stringify({ type: "SUBSCRIBE", room: "lobby", id: "join" }));
    await member.expect('{"type":"SUBSCRIBED","room":"lobby","id":"join"}');
  }

  // Every kind of value, from everyone to everyone, in one order.
  const values = ["Hello", "", "😀 é", { nested: [1, 2.5, null, true] }, [], 17, null, "x".repeat(60_000)];
  for (const [index, value] of values.entries()) {
    const sender = members[index % members.length];
    sender.send(JSON.stringify({ type: "SEND_MESSAGE", roomId: "lobby", message: value }));
    const text = JSON.stringify({ type: "MESSAGE", room: "lobby", message: value });
    for (const member of members) await member.expect(text);
  }

  // A burst arrives whole and in order, near and far.
  for (let number = 0; number < 500; number += 1) {
    first.send(JSON.stringify({ type: "SEND_MESSAGE", roomId: "lobby", message: number }));
  }
  for (const member of members) {
    for (let number = 0; number < 500; number += 1) {
      await member.expect(`{"type":"MESSAGE","room":"lobby","message":${number}}`);
    }
  }

  // WebSocket pings, fragments, and the application's own ping.
  const pong = new Promise((resolve) => first.socket.once("pong", (data) => resolve(data.toString())));
  first.socket.ping("are you there?");
  assert.equal(await pong, "are you there?");
  first.socket.send('{"type":"PI', { fin: false });
  first.socket.send('NG","id":5}', { fin: true });
  await first.expect('{"type":"PONG","id":5}');

  // Refusals leave the connection open.
  first.send("nonsense");
  assert.equal(JSON.parse(await first.next()).code, "bad_json");
  first.socket.send(Buffer.from([0, 255]));
  assert.equal(JSON.parse(await first.next()).code, "binary_not_supported");

  first.send('{"type":"UNSUBSCRIBE","room":"lobby","id":1}');
  await first.expect('{"type":"UNSUBSCRIBED","room":"lobby","id":1}');
  second.send('{"type":"SEND_MESSAGE","roomId":"lobby","message":"without you"}');
  await offering.expect('{"type":"MESSAGE","room":"lobby","message":"without you"}');
  first.send('{"type":"PING"}');
  await first.expect('{"type":"PONG"}');

  for (const member of members) assert.equal(await member.close(), 1000);
});
