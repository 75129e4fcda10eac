// permessage-deflate with `ws`, whose zlib nobody here wrote: every way to offer it, messages both ways, and members without
// it in the same room: node compression.mjs <url of a server with threshold 0 and the echo dialect>

import assert from "node:assert/strict";
import { Client, run } from "./client.mjs";

const offers = [
  true,
  { clientNoContextTakeover: true },
  { serverNoContextTakeover: true },
  { clientMaxWindowBits: 9 },
  { serverMaxWindowBits: 9 },
  { serverMaxWindowBits: 12, clientMaxWindowBits: 10, serverNoContextTakeover: true, clientNoContextTakeover: true },
];
const texts = [
  "",
  "short",
  "the same again ".repeat(300),
  JSON.stringify(Array.from({ length: 2000 }, (_, at) => ({ at, square: at * at }))),
  "żółć 🎺 ".repeat(500),
];

await run(async (url) => {
  const members = [await Client.connect(`${url}/`, { perMessageDeflate: false })];
  for (const offer of offers) {
    // Every message is compressed, however short.
    const perMessageDeflate = offer === true ? { threshold: 0 } : { threshold: 0, ...offer };
    const echo = await Client.connect(`${url}/echo`, { perMessageDeflate });
    assert.equal(echo.socket.extensions, "permessage-deflate");
    for (const text of texts) {
      echo.send(text);
      await echo.expect(text);
    }
    echo.socket.close();
    members.push(await Client.connect(`${url}/`, { perMessageDeflate }));
  }
  assert.equal(members[0].socket.extensions, "");
  for (const member of members) {
    member.send('{"type":"SUBSCRIBE","room":"r"}');
    await member.expect('{"type":"SUBSCRIBED","room":"r"}');
  }
  for (const [at, sender] of members.entries()) {
    for (const text of texts) {
      const message = JSON.stringify(`${at}: ${text}`);
      sender.send(`{"type":"SEND_MESSAGE","roomId":"r","message":${message}}`);
      for (const member of members) await member.expect(`{"type":"MESSAGE","room":"r","message":${message}}`);
    }
  }
  for (const member of members) member.socket.close();
});
