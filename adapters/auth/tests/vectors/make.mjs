// Writes tokens.json beside itself: tokens as npm's `jose` signs them. They were made once, so that the tests need no npm. To make
// them anew, in an empty folder:
//
//     npm install jose@6.2.18
//     cp <here>/make.mjs . && node make.mjs <here>
import { createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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
