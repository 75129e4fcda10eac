// JSON Web Tokens as node's own cryptography makes them: what no library of the server's has had a hand in.

import { createHmac, createSign, generateKeyPairSync } from "node:crypto";

const base64url = (value) => Buffer.from(value).toString("base64url");

/** A token of these claims, signed as `alg` says: `HS256` with a secret, `RS256` or `ES256` with a private key, or not at all. */
export function mint(claims, options) {
  return mintText(JSON.stringify(claims), options);
}

/** The same of a payload that need not be what any library writes. */
export function mintText(payload, { alg = "HS256", key, header = {} }) {
  const signed = `${base64url(JSON.stringify({ alg, typ: "JWT", ...header }))}.${base64url(payload)}`;
  return `${signed}.${signature(signed, alg, key)}`;
}

function signature(signed, alg, key) {
  if (alg === "none") return "";
  if (alg === "HS256") return createHmac("sha256", key).update(signed).digest("base64url");
  const options = alg === "ES256" ? { key, dsaEncoding: "ieee-p1363" } : { key };
  return createSign("sha256").update(signed).sign(options, "base64url");
}

/** The claims of a user for an hour. */
export function claimsOf(user, more = {}) {
  const now = Math.floor(Date.now() / 1000);
  return { sub: user, iat: now, exp: now + 3600, ...more };
}

/** Two keys of RSA, and the public one as PEM. */
export function rsaPair() {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { privateKey, publicPem: publicKey.export({ type: "spki", format: "pem" }), jwk: publicKey.export({ format: "jwk" }) };
}
