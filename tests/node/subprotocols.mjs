// Which subprotocol `ws` is given by a server that replaces one of its own, and by that one itself, with the same offers:
// node subprotocols.mjs <url of the classic dialect> <url of the broadcast dialect>

import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket, { WebSocketServer } from "ws";
import { Client, run } from "./client.mjs";

const OFFERS = [undefined, "chat", ["chat"], ["bearer", "eyJhbGciOi.eyJzdWIi.x-_y"], ["json", "fanfare.v1"], ["v2.chat", "v1.chat"]];

await run(async (...urls) => {
  const node = new WebSocketServer({ port: 0 });
  await once(node, "listening");
  for (const offer of OFFERS) {
    const selected = [];
    for (const url of [`ws://127.0.0.1:${node.address().port}`, ...urls]) {
      // Fails, as in a browser, where something is offered and nothing selected.
      const client = await Client.connect(url, offer ?? []);
      selected.push(client.socket.protocol);
      assert.equal(await client.close(), 1000);
    }
    assert.deepEqual(selected.slice(1), [selected[0], selected[0]], JSON.stringify(offer));
  }
  // A secret is not sent back. Its client offers a name beside it.
  for (const url of urls) {
    const client = await Client.connect(url, ["fanfare.token.s3cret", "chat"]);
    assert.equal(client.socket.protocol, "chat");
    assert.equal(await client.close(), 1000);
    const alone = new WebSocket(url, ["fanfare.token.s3cret"]);
    const [error] = await once(alone, "error");
    assert.match(error.message, /subprotocol/);
  }
  node.close();
});
