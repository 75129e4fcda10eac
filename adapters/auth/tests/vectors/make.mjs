// Writes tokens.json and sessions.json beside itself: tokens as npm's `jose` signs them, cookies and sessions as `express-session` and
// `connect-redis` write them. They were made once, so that the tests need no npm. To make them anew, in an empty folder:
//
//     npm install jose@6.2.18 express@5.3.0 express-session@1.19.0 connect-redis@9.0.0 redis@6.3.1
//     cp <here>/make.mjs . && node make.mjs <here>
//
// The session of `passport` ends at another time then, which `END` in sessions_of_express.rs tells.
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import * as jose from "jose";

const here = process.argv[2];
const write = (file, value) => writeFileSync(join(here, file), JSON.stringify(value, null, 1) + "\n");
const pem = (file) => readFileSync(join(here, "../keys", file));

// 2023-11-14 22:13:20 UTC, and a minute later.
const claims = { iss: "https://id.example", aud: "fanfare", sub: "alice", iat: 1700000000, exp: 1700000060, jti: "t-1" };
const secret = new TextEncoder().encode("the secret of the tests, which is no secret: 64 bytes and more...");

const keys = { RS: "rsa-a", PS: "rsa-a", ES256: "p256-a", ES384: "p384-a", Ed: "ed25519-a" };
const fileOf = (algorithm) => keys[algorithm] ?? keys[algorithm.slice(0, 2)];
const tokens = {};
for (const alg of ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]) {
  const file = fileOf(alg);
  const key = file ? createPrivateKey(pem(`${file}.private.pem`)) : secret;
  tokens[alg] = await new jose.SignJWT(claims).setProtectedHeader({ alg, typ: "JWT", kid: file ?? "secret" }).sign(key);
}
const published = [];
for (const file of new Set(Object.values(keys))) {
  const jwk = await jose.exportJWK(createPublicKey(pem(`${file}.public.pem`)));
  published.push({ ...jwk, kid: file, use: "sig" });
}
write("tokens.json", { secret: new TextDecoder().decode(secret), tokens, jwks: { keys: published } });

// A client of Redis that remembers what it is asked to store.
const stored = new Map();
const redis = {
  set: async (key, value) => void stored.set(key, value),
  get: async (key) => stored.get(key) ?? null,
  expire: async () => 1,
};

async function sessionOf(name, cookie, fill) {
  stored.clear();
  const app = express();
  const store = new RedisStore({ client: redis });
  app.use(session({ name, secret: ["the new secret", "the old secret"], resave: false, saveUninitialized: true, cookie, store }));
  app.get("/", (request, response) => (fill(request.session), response.end()));
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const answer = await fetch(`http://127.0.0.1:${server.address().port}/`);
  server.close();
  const [[key, text]] = stored;
  return { cookie: answer.headers.getSetCookie()[0].split(";")[0], key, text };
}

write("sessions.json", {
  secrets: ["the new secret", "the old secret"],
  passport: await sessionOf("connect.sid", { maxAge: 3600_000 }, (session) => (session.passport = { user: "alice" })),
  numbered: await sessionOf("sid", {}, (session) => (session.userId = 42)),
  anonymous: await sessionOf("connect.sid", {}, () => {}),
});
process.exit(0);
