// Tokens that must not let anybody in, and what a server says of them: node attacks.mjs <url> <secret> <file of a private RSA key> <audience>
// The server knows the secret, and the public RSA key by the name `rsa`, and takes tokens for the audience alone.

import assert from "node:assert/strict";
import { createPublicKey } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import WebSocket from "ws";
import { Client, run, within } from "./client.mjs";
import { claimsOf, mint, mintText } from "./tokens.mjs";

async function status(url, ...options) {
  const socket = new WebSocket(url, ...options);
  socket.on("error", () => {});
  const refused = once(socket, "unexpected-response").then(([, response]) => response.statusCode);
  const opened = once(socket, "open").then(() => 101);
  const found = await within(Promise.race([refused, opened]), "an answer");
  socket.terminate();
  return found;
}

await run(async (url, secret, keyFile, aud) => {
  const privateKey = readFileSync(keyFile, "utf8");
  const publicPem = createPublicKey(privateKey).export({ type: "spki", format: "pem" });
  const claims = (more) => claimsOf("alice", { aud, ...more });
  const now = Math.floor(Date.now() / 1000);
  const hs = (more, header) => mint(claims(more), { key: secret, header });
  const nested = (depth) => `{"sub":"alice","aud":"${aud}","exp":${now + 60},"x":${"[".repeat(depth)}${"]".repeat(depth)}}`;
  // Signed by the right secret, so that what they say is all that is wrong with them.
  const raw = (payload) => mintText(payload, { key: secret });
  const good = hs();
  const attacks = {
    "alg none": mint(claims(), { alg: "none" }),
    "alg None with the signature of another": good.replace(/^[^.]*/, Buffer.from('{"alg":"None","typ":"JWT"}').toString("base64url")),
    "a public key as the secret": mint(claims(), { key: publicPem, header: { kid: "rsa" } }),
    expired: hs({ exp: now - 3600 }),
    "another audience": hs({ aud: "others" }),
    "no audience": hs({ aud: undefined }),
    "too large": hs({ x: "x".repeat(7000) }),
    "deep JSON": raw(nested(500)),
    "JSON that parsers take, and that is deeper than claims are": raw(nested(20)),
    "an unknown kid, and another secret": mint(claims(), { key: "another secret of more than thirty-two bytes", header: { kid: "nobody's" } }),
    truncated: good.slice(0, -5),
    "cut in the middle": good.slice(0, good.length / 2),
    "valid an hour from now": hs({ nbf: now + 3600 }),
    "issued an hour from now": hs({ iat: now + 3600 }),
    "a claim twice": raw(`{"sub":"alice","sub":"admin","aud":"${aud}","exp":${now + 60}}`),
    "no user": hs({ sub: undefined }),
    "an empty user": hs({ sub: "" }),
    "a user that is a list": hs({ sub: ["alice"] }),
    "of another secret": mint(claims(), { key: "another secret of more than thirty-two bytes" }),
    "a critical extension": hs({}, { crit: ["x"], x: 1 }),
    "a key of its own": hs({}, { jwk: { kty: "oct", k: "AAAA" } , alg: "HS512" }),
    empty: "",
    dots: "..",
  };
  for (const [name, token] of Object.entries(attacks)) {
    for (const [place, options] of Object.entries({
      header: [url, { headers: { Authorization: `Bearer ${token}` } }],
      query: [`${url}/?token=${encodeURIComponent(token)}`],
    })) {
      const found = await status(...options);
      assert.ok([401, 431].includes(found), `${name} by ${place}: ${found}`);
    }
    const client = await Client.connect(url);
    client.send(JSON.stringify({ type: "AUTH", token, id: 1 }));
    const reply = JSON.parse(await client.next());
    assert.equal(reply.type, "ERROR", `${name} by AUTH: ${JSON.stringify(reply)}`);
    assert.ok(["unauthorised", "token_expired"].includes(reply.code), `${name} by AUTH: ${reply.code}`);
    client.send('{"type":"SUBSCRIBE","room":"tea","id":2}');
    assert.equal(JSON.parse(await client.next()).code, "unauthorised");
    await client.close();
    console.log(`${name}: kept out`);
  }

  // A token that is taken in one place is taken in all that are configured, and in none that is not.
  const bearer = { headers: { Authorization: `Bearer ${good}` } };
  assert.equal(await status(url, bearer), 101);
  const plain = raw(nested(2));
  assert.equal(await status(url, { headers: { Authorization: `Bearer ${plain}` } }), 101, "written by hand, and right");
  assert.equal(await status(url, { headers: { Cookie: `jwt=${good}`, Origin: url.replace("ws:", "http:") } }), 101, "let in as nobody");

  // Names of users made of everything that has a meaning elsewhere.
  const names = ["*", "**", ":", "a:b", "%", "%41", "{user}", "a\u0000b", "\u007f", " ", "é", "\u202e", "😀", "a/b?c#d", '"', "\\", "user:alice"];
  const ascii = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code)).join("");
  // U+0080 to U+00FF, each two bytes: half of them, because a name has 255 bytes at most.
  const above = Array.from({ length: 128 }, (_, code) => String.fromCharCode(128 + code));
  const halves = [above.slice(0, 64).join(""), above.slice(64).join("")];
  for (const name of [...names, ascii, ...above, ...halves]) {
    const client = await Client.connect(url, { headers: { Authorization: `Bearer ${hs({ sub: name })}` } });
    const { room } = JSON.parse(await client.next());
    const kept = /[A-Za-z0-9\-._~@]/;
    const segment = [...Buffer.from(name)].map((byte) => {
      const character = String.fromCharCode(byte);
      return kept.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    });
    assert.equal(room, `user:${segment.join("")}`);
    client.send('{"type":"SUBSCRIBE","room":"user:alice","id":1}');
    assert.equal(JSON.parse(await client.next()).code, "forbidden", JSON.stringify(name));
    assert.equal(await client.close(), 1000);
  }
  console.log("names: each is its own");

  // A renewal by another user in the middle of publishing: what comes behind it is the first user's word.
  const receiver = await Client.connect(url, bearer);
  await receiver.next();
  receiver.send('{"type":"SUBSCRIBE","room":"tea","id":1}');
  await receiver.next();
  const sender = await Client.connect(url, { headers: { Authorization: `Bearer ${hs({ sub: "bob" })}` } });
  await sender.next();
  const publish = (message) => sender.send(JSON.stringify({ type: "SEND_MESSAGE", room: "tea", message }));
  publish(1);
  sender.send(JSON.stringify({ type: "AUTH", token: good, id: 1 }));
  publish(2);
  assert.equal(JSON.parse(await sender.next()).code, "forbidden");
  publish(3);
  for (const message of [1, 2, 3]) {
    const heard = JSON.parse(await receiver.next());
    assert.deepEqual([heard.from, heard.message], ["bob", message]);
  }
  console.log("another's renewal: kept out");
});
