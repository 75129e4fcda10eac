// Verifies a webhook as an endpoint does, by the library of the specification's authors: the secret, the header fields and the body in,
// what the body says out.
import { Webhook } from "standardwebhooks";

const [secret, id, timestamp, signature, body] = process.argv.slice(2);
const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
console.log(JSON.stringify(new Webhook(secret).verify(body, headers)));
