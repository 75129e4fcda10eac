// The frames of the classic room programs, character for character, by the npm package `ws`, against two instances:
// node seed_frames.mjs <url of one> <url of the other>

import assert from "node:assert/strict";
import { Client, run } from "./client.mjs";

const SUBSCRIBE = '{"type":"SUBSCRIBE","room":"room1"}';
const SEND_MESSAGE = '{"type":"SEND_MESSAGE","roomId":"room1","message":"Hello"}';
const UNSUBSCRIBE = '{"type":"UNSUBSCRIBE","room":"room1"}';

await run(async (one, two) => {
  // As those programs connect: the bare URL, no subprotocol.
  const alice = await Client.connect(one);
  const bob = await Client.connect(two);

  for (const client of [alice, bob]) {
    client.send(SUBSCRIBE);
    assert.deepEqual(JSON.parse(await client.next()), { type: "SUBSCRIBED", room: "room1" });
  }
  for (const sender of [alice, bob]) {
    sender.send(SEND_MESSAGE);
    for (const client of [alice, bob]) {
      assert.deepEqual(JSON.parse(await client.next()), { type: "MESSAGE", room: "room1", message: "Hello" });
    }
  }
  bob.send(UNSUBSCRIBE);
  assert.deepEqual(JSON.parse(await bob.next()), { type: "UNSUBSCRIBED", room: "room1" });
  alice.send(SEND_MESSAGE);
  assert.deepEqual(JSON.parse(await alice.next()), { type: "MESSAGE", room: "room1", message: "Hello" });

  // Nothing of it came to the one who left: the next thing is the answer to its own question.
  bob.send('{"type":"PING"}');
  assert.deepEqual(JSON.parse(await bob.next()), { type: "PONG" });
  await alice.close();
  await bob.close();
});
