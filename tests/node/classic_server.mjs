// A room server as it is written in Node with `ioredis`, sharing rooms with this one while it is phased out:
// node classic_server.mjs <url of the server> <url of Redis>
// One side of it only: what it publishes for its clients, and what it would hand them.

import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { Client, run, within } from "./client.mjs";

await run(async (serverUrl, redisUrl) => {
  const publisher = new Redis(redisUrl);
  const subscriber = new Redis(redisUrl);
  const handed = [];
  let waiting;
  subscriber.on("message", (channel, text) => {
    const command = JSON.parse(text);
    assert.equal(command.type, "SEND_MESSAGE");
    assert.equal(command.roomId, channel);
    handed.push(command.message);
    waiting?.();
  });
  const nextHanded = () =>
    within(
      new Promise((resolve) => {
        waiting = () => {
          if (handed.length > 0) {
            // Or it would take the next message as well, and give it to nobody.
            waiting = undefined;
            resolve(handed.shift());
          }
        };
        waiting();
      }),
      "a message for the classic server's clients",
    );
  await within(subscriber.subscribe("room1"), "the subscription");

  const client = await Client.connect(serverUrl);
  client.send('{"type":"SUBSCRIBE","room":"room1"}');
  await client.expect('{"type":"SUBSCRIBED","room":"room1"}');

  // From the classic server's clients to ours.
  const command = { type: "SEND_MESSAGE", roomId: "room1", message: "from the classic side" };
  await within(publisher.publish("room1", JSON.stringify(command)), "the publish");
  await client.expect('{"type":"MESSAGE","room":"room1","message":"from the classic side"}');
  assert.equal(await nextHanded(), "from the classic side");

  // And from ours to the classic server's.
  client.send('{"type":"SEND_MESSAGE","roomId":"room1","message":"from the new side"}');
  await client.expect('{"type":"MESSAGE","room":"room1","message":"from the new side"}');
  assert.equal(await nextHanded(), "from the new side");
});
