// What senders and members of rooms with history share: a log that is written line by line, a message's identity, words on standard
// input and progress on standard output.

import { createHash } from "node:crypto";
import { openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

const LOG_BYTES = 64 * 1024;

/** What a script was started with: <log> <settings as JSON>. */
export function settings() {
  const [path, json] = process.argv.slice(2);
  return { ...JSON.parse(json), log: new Log(path) };
}

/** A file of JSON lines. What is not written yet is written at the end. */
class Log {
  #file;
  #lines = "";

  constructor(path) {
    this.#file = openSync(path, "w");
    process.on("exit", () => this.#write());
  }

  note(line) {
    this.#lines += `${JSON.stringify(line)}\n`;
    if (this.#lines.length >= LOG_BYTES) this.#write();
  }

  #write() {
    writeSync(this.#file, this.#lines);
    this.#lines = "";
  }
}

/** A message as it stands in the logs: long ones by a digest, behind the same beginning. */
export function identity(message) {
  if (typeof message !== "string" || message.length <= 64) return message;
  const digest = createHash("sha1").update(message).digest("hex");
  return `${message.slice(0, 16)}… ${digest}`;
}

/** Says how far the script is: one line, for whoever waits for it. */
export function progress(message) {
  process.stdout.write(`${JSON.stringify({ message })}\n`);
}

/** Calls what belongs to each word that comes on standard input. */
export function obey(words) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (word) => words[word]());
  return lines;
}

export function soon(milliseconds) {
  return Math.random() * milliseconds;
}
