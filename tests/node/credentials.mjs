// Who somebody is, shown by npm's `ws` in every place: node credentials.mjs <url> <url of another instance> <secret>

import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket from "ws";
import { Client, run, within } from "./client.mjs";
import { claimsOf, mint } from "./tokens.mjs";

/** The status and the body of an upgrade that is refused. */
async function refused(url, ...options) {
  const socket = new WebSocket(url, ...options);
  socket.on("error", () => {});
  const [, response] = await within(once(socket, "unexpected-response"), "a refusal");
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, error: JSON.parse(body).error };
}

/** What a connection is told first: that it is in the user's own room. */
async function owns(client, room) {
  await client.expect(JSON.stringify({ type: "SUBSCRIBED", room }));
}

await run(async (url, other, secret) => {
  const token = (user, more) => mint(claimsOf(user, more), { key: secret });
  const alice = token("alice");
  const forged = mint(claimsOf("alice"), { key: "another secret of more than thirty-two bytes" });
  const Origin = url.replace("ws:", "http:");
  // What is given to `ws` to show a token in each place of a request.
  const places = {
    header: (token) => [url, { headers: { Authorization: `Bearer ${token}` } }],
    query: (token) => [`${url}/?token=${token}`],
    subprotocol: (token) => [url, ["fanfare.v1", `fanfare.token.${token}`]],
    cookie: (token) => [url, { headers: { Cookie: `a=b; jwt=${token}`, Origin } }],
  };
  for (const [place, shown] of Object.entries(places)) {
    const client = await Client.connect(...shown(alice));
    await owns(client, "user:alice");
    assert.equal(client.socket.protocol, place === "subprotocol" ? "fanfare.v1" : "");
    assert.equal(await client.close(), 1000);
    console.log(`${place}: let in`);
    assert.deepEqual(await refused(...shown(forged)), { status: 401, error: "unauthorised" }, place);
    console.log(`${place}, forged: kept out`);
  }

  // By a command, as often as it takes.
  const commands = await Client.connect(url);
  commands.send('{"type":"SUBSCRIBE","room":"tea","id":1}');
  assert.equal(JSON.parse(await commands.next()).code, "unauthorised");
  commands.send(JSON.stringify({ type: "AUTH", token: forged, id: 2 }));
  assert.equal(JSON.parse(await commands.next()).code, "unauthorised");
  commands.send(JSON.stringify({ type: "AUTH", token: alice, id: 3 }));
  const reply = JSON.parse(await commands.next());
  assert.deepEqual([reply.type, reply.user, reply.id], ["AUTHENTICATED", "alice", 3]);
  await owns(commands, "user:alice");
  assert.equal(await commands.close(), 1000);
  console.log("command: let in");

  // A cookie without an Origin, or of a page elsewhere, is none.
  const cookie = `jwt=${alice}`;
  const anonymous = await Client.connect(url, { headers: { Cookie: cookie } });
  anonymous.send('{"type":"SUBSCRIBE","room":"tea","id":1}');
  assert.equal(JSON.parse(await anonymous.next()).code, "unauthorised");
  await anonymous.close();
  const elsewhere = new WebSocket(url, { headers: { Cookie: cookie, Origin: "https://evil.example" } });
  elsewhere.on("error", () => {});
  const [, response] = await within(once(elsewhere, "unexpected-response"), "a refusal");
  assert.equal(response.statusCode, 403);

  // What a user says reaches all of another's devices, on every instance, with the user's name.
  const bearer = (token) => ({ headers: { Authorization: `Bearer ${token}` } });
  const [phone, laptop] = [await Client.connect(url, bearer(token("b:ob"))), await Client.connect(other, bearer(token("b:ob")))];
  for (const device of [phone, laptop]) await owns(device, "user:b%3Aob");
  const sender = await Client.connect(other, bearer(alice));
  await owns(sender, "user:alice");
  sender.send('{"type":"SEND_MESSAGE","room":"user:b%3Aob","message":"hi","from":"mallory","id":1}');
  for (const device of [phone, laptop]) {
    const message = JSON.parse(await device.next());
    assert.deepEqual([message.from, message.message], ["alice", "hi"]);
    assert.ok(Math.abs(Date.now() - message.time) < 60_000, `${message.time}`);
  }
  assert.equal(JSON.parse(await sender.next()).type, "ACK");
  sender.send('{"type":"SUBSCRIBE","room":"user:b%3Aob","id":2}');
  assert.equal(JSON.parse(await sender.next()).code, "forbidden");

  // Grants, and their end by a renewal.
  const member = await Client.connect(url, bearer(token("carol", { grants: { subscribe: ["team:*"], publish: ["team:7"] } })));
  await owns(member, "user:carol");
  member.send('{"type":"SUBSCRIBE","room":"team:7","id":1}');
  await member.expect('{"type":"SUBSCRIBED","room":"team:7","id":1}');
  member.send('{"type":"SEND_MESSAGE","room":"team:8","message":1,"id":2}');
  assert.equal(JSON.parse(await member.next()).code, "forbidden");
  member.send(JSON.stringify({ type: "AUTH", token: token("alice"), id: 3 }));
  assert.equal(JSON.parse(await member.next()).code, "forbidden");
  member.send(JSON.stringify({ type: "AUTH", token: token("carol"), id: 4 }));
  await member.expect('{"type":"UNSUBSCRIBED","room":"team:7","code":"forbidden"}');
  assert.equal(JSON.parse(await member.next()).type, "AUTHENTICATED");

  // A credential that ends, and is renewed or not.
  const now = Math.floor(Date.now() / 1000);
  const short = { exp: now + 3 };
  const brief = await Client.connect(url, bearer(token("dave", short)));
  await owns(brief, "user:dave");
  assert.equal(JSON.parse(await brief.next()).code, "token_expiring");
  const ended = once(brief.socket, "close");
  assert.deepEqual((await within(ended, "the end of a credential")).slice(0, 1), [4001]);
});
