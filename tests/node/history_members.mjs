// Members of a room with history, by the npm package `ws`. They come back with their position and write down what they hear, until the
// message "end": node history_members.mjs <log> <settings as JSON>
//
//   urls         where they connect: each member begins at the next one, or with `together` all at the first; who is cut off goes on to
//                the next
//   room, members
//   leave_after  messages after which a member breaks its connection and comes back, if any
//   plain        does not offer compression
//
// Words on standard input: "leave" (break the connections and stay away) and "return".

import WebSocket from "ws";
import { identity, obey, progress, settings, soon } from "./history.mjs";

const AWAY_MS = 100;
const SILENT_SECONDS = 20;

const { urls, room, members, together, leave_after, plain, log } = settings();
const options = plain ? { perMessageDeflate: false } : {};
let subscribed = 0;
let ended = 0;
let silent = 0;
let away = false;

class Member {
  #socket = null;
  /** Epoch and offset of the last message that was seen. */
  #place = null;
  #heard = 0;
  #ended = false;

  constructor(number) {
    this.number = number;
    this.visits = together ? 0 : number;
  }

  connect() {
    if (this.#ended || away) return;
    const since = this.#place && { ...this.#place };
    // Both ways of coming back are used.
    const query = new URLSearchParams({ room, ...(since && { since: `${since.epoch}:${since.offset}` }) });
    const byQuery = this.number % 2 === 0;
    const socket = new WebSocket(`${urls[this.visits % urls.length]}/ws${byQuery ? `?${query}` : ""}`, options);
    this.#socket = socket;
    socket.on("open", () => {
      log.note({ member: this.number, since });
      if (!byQuery) socket.send(JSON.stringify({ type: "SUBSCRIBE", room, id: 1, ...(since && { since }) }));
    });
    socket.on("message", (text) => {
      if (socket === this.#socket) this.#hear(JSON.parse(text));
    });
    socket.on("error", () => {});
    socket.on("close", (code) => {
      if (socket !== this.#socket) return;
      log.note({ member: this.number, closed: code });
      this.visits += 1;
      setTimeout(() => this.connect(), soon(AWAY_MS));
    });
  }

  /** Breaks the connection, as a network does. */
  leave() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.terminate();
    if (socket) log.note({ member: this.number, closed: null });
  }

  #hear(text) {
    silent = 0;
    const { type, epoch, offset, fence, to } = text;
    log.note({ member: this.number, heard: type === "MESSAGE" ? { ...text, message: identity(text.message) } : text });
    if (type === "SUBSCRIBED") {
      this.#place = { epoch, offset };
      subscribed += 1;
      if (subscribed % 100 === 0 || subscribed % members === 0) progress(`${subscribed} subscribed`);
    }
    if (type === "GAP") this.#place = { epoch, offset: fence ?? to };
    if (type !== "MESSAGE") return;
    this.#place.offset = offset;
    this.#heard += 1;
    if (text.message === "end") return this.#end();
    if (!leave_after || this.#heard % (leave_after + (this.number % 7)) !== 0) return;
    this.leave();
    this.visits += 1;
    setTimeout(() => this.connect(), soon(AWAY_MS));
  }

  #end() {
    this.#ended = true;
    this.#socket.close(1000);
    this.#socket = null;
    ended += 1;
    if (ended === members) process.exit(0);
  }
}

const all = Array.from({ length: members }, (_, number) => new Member(number));
for (const member of all) member.connect();

obey({
  leave() {
    away = true;
    for (const member of all) member.leave();
    progress("away");
  },
  return() {
    away = false;
    for (const member of all) member.connect();
  },
});

// By seconds in which this process ran: one that was stopped has heard nothing, and that is no silence.
setInterval(() => {
  silent += 1;
  if (silent < SILENT_SECONDS || away) return;
  log.note({ late: members - ended });
  process.exit(0);
}, 1000);
