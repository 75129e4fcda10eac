// Users of an application of Express come in by the cookie that it gave them, and go when they sign out there:
// node express_sessions_let_in.mjs <url of the server> <port of the application> <port of its Redis>

import assert from "node:assert/strict";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import { createClient } from "redis";
import WebSocket from "ws";
import { Client, DEADLINE_MS, run, within } from "./client.mjs";

await run(async (url, appPort, redisPort) => {
  const app = `http://127.0.0.1:${appPort}`;
  const Origin = url.replace("ws:", "http:");
  const redis = await createClient({ url: `redis://127.0.0.1:${redisPort}` }).connect();
  const deadline = Date.now() + DEADLINE_MS;
  while (!(await fetch(`${app}/here`).then(({ ok }) => ok, () => false))) {
    assert.ok(Date.now() < deadline, "the application listens");
    await pause(20);
  }
  const get = (path, cookie) => fetch(`${app}/${path}`, { headers: { Cookie: cookie } });
  const signIn = async (user) => {
    const response = await fetch(`${app}/login?user=${user}`);
    return response.headers.getSetCookie()[0].split(";")[0];
  };
  /** The key under which connect-redis keeps the session of a cookie. */
  const keyOf = (cookie) => `sess:${decodeURIComponent(cookie.split("=")[1]).slice("s:".length).split(".")[0]}`;
  const connect = async (cookie, user) => {
    const client = await Client.connect(url, { headers: { Cookie: `theme=dark; ${cookie}`, Origin } });
    await client.expect(JSON.stringify({ type: "SUBSCRIBED", room: `user:${user}` }));
    return client;
  };
  const closing = (client) => once(client.socket, "close").then(([code]) => code);
  const isOpen = async (client) => {
    client.send('{"type":"PING","id":1}');
    await client.expect('{"type":"PONG","id":1}');
  };
  const refusal = async (headers) => {
    const socket = new WebSocket(url, { headers });
    socket.on("error", () => {});
    const [, response] = await within(once(socket, "unexpected-response"), "a refusal");
    return response.statusCode;
  };

  const [alice, bob] = [await signIn("alice"), await signIn("bob")];
  const [alices, bobs] = [await connect(alice, "alice"), await connect(bob, "bob")];
  console.log("with the cookie and an Origin: the user");

  const nobody = await Client.connect(url, { headers: { Cookie: alice } });
  nobody.send('{"type":"SUBSCRIBE","room":"tea","id":1}');
  assert.equal(JSON.parse(await nobody.next()).code, "unauthorised");
  await nobody.close();
  assert.equal(await refusal({ Cookie: alice, Origin: "https://evil.example" }), 403);
  // The signature of another's session, and a session that is not there.
  const [name, value] = alice.split("=");
  const forged = `${value.split(".")[0]}.${bob.split("=")[1].split(".")[1]}`;
  assert.equal(await refusal({ Cookie: `${name}=${forged}`, Origin }), 401);
  console.log("without an Origin, from elsewhere, or forged: nobody");

  const signedOut = closing(alices);
  await get("logout", alice);
  assert.equal(await within(signedOut, "the end of who signed out"), 4001);
  assert.equal(await refusal({ Cookie: alice, Origin }), 401);
  await isOpen(bobs);
  console.log("signed out: gone, and nobody else");

  // Two sessions that end in a moment. One rolls on, because its user comes by; the other one, which ends later, does not.
  const [carol, dave] = [await signIn("carol"), await signIn("dave")];
  assert.equal(await redis.pExpire(keyOf(carol), 5_000), 1);
  const carols = await connect(carol, "carol");
  assert.equal(await redis.pExpire(keyOf(dave), 5_000), 1);
  const daves = await connect(dave, "dave");
  const ended = closing(daves);
  assert.equal(await (await get("here", carol)).text(), "carol");
  assert.equal(await within(ended, "the end of a session that does not roll"), 4001);
  await isOpen(carols);
  await isOpen(bobs);
  console.log("rolled on: still here");
  await fetch(`${app}/end`).catch(() => {});
});
