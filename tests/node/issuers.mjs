// Keys of two issuers and tokens that they and others signed, by node's own cryptography, as one object of JSON: node issuers.mjs <audience>
// `keys` has public keys as a key set has them, `tokens` what each test shows, `unknown` tokens of many keys that nobody has.

import { generateKeyPairSync } from "node:crypto";
import { claimsOf, mint } from "./tokens.mjs";

const [aud] = process.argv.slice(2);
const UNKNOWN = 200;

/** A key for an algorithm, by the name that is its `kid`. */
function keyOf(kid, alg) {
  const options = { RS256: ["rsa", { modulusLength: 2048 }], ES256: ["ec", { namedCurve: "P-256" }] }[alg];
  const { privateKey, publicKey } = generateKeyPairSync(...options);
  const jwk = { ...publicKey.export({ format: "jwk" }), kid, alg, use: "sig" };
  const token = (iss, user, header = {}) => mint(claimsOf(user, { iss, aud }), { alg, key: privateKey, header: { kid, ...header } });
  return { jwk, token };
}

const first = "https://first.example";
const second = "https://second.example";
const keys = {
  rsa: keyOf("rsa", "RS256"),
  ec: keyOf("ec", "ES256"),
  next: keyOf("next", "ES256"),
  other: keyOf("other", "ES256"),
  stray: keyOf("stray", "ES256"),
};
const tokens = {
  rsa: keys.rsa.token(first, "alice"),
  ec: keys.ec.token(first, "bob"),
  next: keys.next.token(first, "carol"),
  other: keys.other.token(second, "dave"),
  // What must not come in.
  forged: keys.stray.token(first, "alice", { kid: "ec" }),
  crossed: keys.other.token(first, "alice"),
  crossedByName: keys.other.token(first, "alice", { kid: "ec" }),
  crossedBack: keys.ec.token(second, "dave"),
  stranger: keys.ec.token("https://third.example", "alice"),
};
const unknown = Array.from({ length: UNKNOWN }, (_, number) => keys.stray.token(first, "alice", { kid: `unknown ${number}` }));
const jwks = Object.fromEntries(Object.entries(keys).map(([name, { jwk }]) => [name, jwk]));
console.log(JSON.stringify({ keys: jwks, tokens, unknown }));
