// What the scripts here share: a `ws` connection whose messages are awaited one by one, and the end of a script.

import assert from "node:assert/strict";
import WebSocket from "ws";

/** How long a script waits for a fact before it fails. */
export const DEADLINE_MS = 10_000;

/** Rejects after the deadline, naming what did not happen. */
export function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${DEADLINE_MS} ms: ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** An open connection that keeps what arrives until it is asked for. */
export class Client {
  #arrived = [];
  #waiting = [];

  constructor(socket) {
    this.socket = socket;
    socket.on("message", (data, isBinary) => {
      assert.equal(isBinary, false);
      const text = data.toString("utf8");
      const next = this.#waiting.shift();
      if (next) next(text);
      else this.#arrived.push(text);
    });
  }

  /** Connects, without any option: as `new WebSocket(url)` does. */
  static async connect(url, ...options) {
    const socket = new WebSocket(url, ...options);
    const client = new Client(socket);
    await within(
      new Promise((resolve, reject) => {
        socket.once("open", resolve);
        socket.once("error", reject);
      }),
      `a connection to ${url}`,
    );
    return client;
  }

  send(text) {
    this.socket.send(text);
  }

  /** The next text. */
  next() {
    if (this.#arrived.length > 0) return Promise.resolve(this.#arrived.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), "a message");
  }

  /** The next text must be exactly this one. */
  async expect(text) {
    assert.equal(await this.next(), text);
  }

  /** Closes in order, and gives the code that came back. */
  async close() {
    const closed = new Promise((resolve) => this.socket.once("close", resolve));
    this.socket.close(1000, "done");
    return within(closed, "the close");
  }
}

/** Runs a script's body: prints that all is well, or fails with the reason. Nothing keeps the process alive after it. */
export async function run(body) {
  try {
    await body(...process.argv.slice(2));
    console.log("all is well");
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}
