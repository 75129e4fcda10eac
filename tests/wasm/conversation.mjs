// Clients that nobody here wrote, npm's `ws`, talk to each other through the core as WebAssembly: node conversation.mjs <module>

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Client, run, within } from "../node/client.mjs";
import { FanfareServer } from "./server.mjs";

const text = (value) => JSON.stringify(value);

await run(async (path) => {
  const server = new FanfareServer(path);
  const url = `ws://127.0.0.1:${await server.listen(0)}/ws`;
  const [ann, bob] = [await Client.connect(url), await Client.connect(url)];
  // `ws` offers compression by default.
  assert.equal(ann.socket.extensions, "permessage-deflate");
  for (const client of [ann, bob]) {
    client.send(text({ type: "SUBSCRIBE", room: "tea", id: 1 }));
    await client.expect('{"type":"SUBSCRIBED","room":"tea","id":1}');
  }

  ann.send(text({ type: "SEND_MESSAGE", room: "tea", message: "hello", id: 2 }));
  await bob.expect('{"type":"MESSAGE","room":"tea","message":"hello"}');
  bob.send(text({ type: "SEND_MESSAGE", roomId: "tea", message: { and: ["hello", "to", "you"] } }));
  const got = [await ann.next(), await ann.next(), await ann.next()].sort();
  assert.deepEqual(got, [
    '{"type":"ACK","id":2}',
    '{"type":"MESSAGE","room":"tea","message":"hello"}',
    '{"type":"MESSAGE","room":"tea","message":{"and":["hello","to","you"]}}',
  ]);
  await bob.expect('{"type":"MESSAGE","room":"tea","message":{"and":["hello","to","you"]}}');

  // Larger than a socket is given at once, to one who does not read at first.
  const large = Array.from({ length: 4 }, (_, number) => String(number).repeat(900_000));
  const slow = await Client.connect(url, { perMessageDeflate: false });
  slow.send(text({ type: "SUBSCRIBE", room: "tea" }));
  await slow.expect('{"type":"SUBSCRIBED","room":"tea"}');
  slow.socket.pause();
  for (const [number, message] of large.entries()) {
    // One alone may say only so much at once.
    const sender = number % 2 === 0 ? ann : bob;
    sender.send(text({ type: "SEND_MESSAGE", room: "tea", message }));
    for (const client of [ann, bob]) await client.expect(text({ type: "MESSAGE", room: "tea", message }));
  }
  slow.socket.resume();
  for (const message of large) await slow.expect(text({ type: "MESSAGE", room: "tea", message }));

  // Limits and closing are the core's, too.
  ann.socket.send(Buffer.from([0, 255]));
  assert.equal(JSON.parse(await ann.next()).code, "binary_not_supported");
  const pong = new Promise((resolve) => bob.socket.once("pong", (data) => resolve(data.toString())));
  bob.socket.ping("are you there?");
  assert.equal(await within(pong, "a pong"), "are you there?");
  for (const client of [ann, bob, slow]) assert.equal(await client.close(), 1000);
  await within(
    (async () => {
      while (server.connections > 0) await new Promise(setImmediate);
    })(),
    "the server's end of every connection",
  );
  server.stop();
  await theProgramServes(path);
});

/** The same server as a program of its own. */
async function theProgramServes(path) {
  const program = spawn(process.execPath, [fileURLToPath(new URL("server.mjs", import.meta.url)), "0", path]);
  try {
    const [said] = await within(once(program.stdout, "data"), "the program's first line");
    const [, address] = /^listening on (.*)\n$/.exec(said);
    const cid = await Client.connect(`ws://${address}`);
    cid.send('{"type":"PING","id":1}');
    await cid.expect('{"type":"PONG","id":1}');
  } finally {
    program.kill();
  }
}
