// A sender to a room with history, by the npm package `ws`, that sends each message until it is acknowledged, under one key, and writes
// down every answer: node history_sender.mjs <log> <settings as JSON>
//
//   urls         the instances by which it sends in turn; who is cut off goes on to the next
//   room, name   of the room, and of the sender in its messages
//   count        how many messages; without it until the word "stop" comes on standard input
//   text         the message, where it is a single one
//   bytes        of a message, if it shall be long
//   per_second   messages a second at most, if there is a bound
//   window       how many messages may be unacknowledged [50]
//   copies       how often each is sent [1]: each copy by another connection
//   break_after  messages after which a connection is broken without waiting for their answers

import { randomBytes, randomUUID } from "node:crypto";
import WebSocket from "ws";
import { identity, obey, progress, settings, soon } from "./history.mjs";

const AGAIN_MS = 40;
const PROGRESS = 25;
const PASSING = ["unconfirmed", "broker_unavailable", "broker_busy", "too_fast"];

const { urls, room, name, count, text, bytes, per_second, window = 50, copies = 1, break_after, log } = settings();
let stopped = false;
let number = 0;
let acknowledged = 0;
/** How many copies of which message have not been acknowledged. */
const unacknowledged = new Map();
let began = performance.now();

/** One connection after another to the instances in turn, with what was sent by it and not answered. */
class Link {
  #socket = null;
  #unanswered = new Map();
  #id = 0;
  #sent = 0;

  constructor(visits) {
    this.visits = visits;
    this.#connect();
  }

  #connect() {
    const socket = new WebSocket(`${urls[this.visits % urls.length]}/ws`);
    socket.on("open", () => {
      this.#socket = socket;
      const again = [...this.#unanswered.values()];
      this.#unanswered.clear();
      for (const message of again) this.send(message);
    });
    socket.on("message", (data) => this.#answered(JSON.parse(data)));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#socket = null;
      this.visits += 1;
      if (!process.exitCode) setTimeout(() => this.#connect(), soon(AGAIN_MS));
    });
  }

  send(message) {
    this.#id += 1;
    this.#unanswered.set(this.#id, message);
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    this.#socket.send(JSON.stringify({ type: "SEND_MESSAGE", room, ...message, id: this.#id }));
    this.#sent += 1;
    if (break_after && this.#sent % break_after === 0) setImmediate((socket) => socket.terminate(), this.#socket);
  }

  #answered({ type, id, code, epoch, offset }) {
    const message = this.#unanswered.get(id);
    if (!message) return;
    this.#unanswered.delete(id);
    if (type === "ACK") {
      log.note({ acknowledged: identity(message.message), epoch, offset, at_ms: Math.round(performance.now()) });
      const left = unacknowledged.get(message.key) - 1;
      if (left > 0) return unacknowledged.set(message.key, left);
      unacknowledged.delete(message.key);
      acknowledged += 1;
      if (acknowledged % PROGRESS === 0) progress(`${acknowledged} acknowledged`);
      return sendMore();
    }
    log.note({ refused: identity(message.message), code });
    progress(code);
    if (!PASSING.includes(code)) process.exit(1);
    setTimeout(() => this.send(message), soon(AGAIN_MS));
  }
}

const links = Array.from({ length: Math.max(copies, urls.length) }, (_, visits) => new Link(visits));

function sendMore() {
  const due = per_second ? ((performance.now() - began) / 1000) * per_second : Infinity;
  while (unacknowledged.size < window && number < due && number < (count ?? Infinity) && !stopped) {
    const padding = bytes ? `:${randomBytes(bytes).toString("base64").slice(0, bytes)}` : "";
    const message = { message: text ?? `${name}:${number}${padding}`, key: randomUUID() };
    unacknowledged.set(message.key, copies);
    for (let copy = 0; copy < copies; copy += 1) links[(number + copy) % links.length].send(message);
    number += 1;
  }
  if (unacknowledged.size === 0 && (stopped || number === count)) process.exit(0);
}

obey({
  stop() {
    stopped = true;
    sendMore();
  },
});
setInterval(sendMore, 5);
