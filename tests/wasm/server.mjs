// A Fanfare server in Node: its sockets and its clock, and the core as WebAssembly. See src/server.rs for the module's side.
//
//   .ci/purity wasm                              builds the module
//   node tests/wasm/server.mjs [PORT [MODULE]]   serves on 127.0.0.1, on port 8080 if none is given

import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { getRandomValues } from "node:crypto";
import { fileURLToPath } from "node:url";

const [SEND, SHUTDOWN, CLOSE] = [0, 1, 2];
const NONE = 0xffff_ffff_ffff_ffffn;
/** id, length and what precedes them. */
const RECORD_BYTES = 13;

export class FanfareServer {
  #core;
  #sockets = new Map();
  #timer;
  #server;

  /** @param path of the module, which must import nothing */
  constructor(path) {
    this.#core = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(path)), {}).exports;
    this.#core.start(getRandomValues(new BigUint64Array(1))[0]);
  }

  /** Listens on this port of 127.0.0.1, 0 for a free one, and gives it. */
  async listen(port) {
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    await new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
    return this.#server.address().port;
  }

  /** Stops listening, and cuts everyone off. */
  stop() {
    clearTimeout(this.#timer);
    this.#server.close();
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  /** How many connections there are. */
  get connections() {
    return this.#sockets.size;
  }

  #now() {
    return process.hrtime.bigint() / 1_000n;
  }

  #accept(socket) {
    const id = BigInt.asUintN(64, this.#core.open(this.#now()));
    if (id === NONE) return socket.destroy();
    this.#sockets.set(id, socket);
    this.#carryOut();
    socket.setNoDelay(true);
    socket.on("data", (data) => {
      new Uint8Array(this.#core.memory.buffer, this.#core.input(data.length), data.length).set(data);
      this.#core.feed(id, this.#now());
      this.#carryOut();
    });
    // An error is followed by a close; a FIN may come long before.
    socket.on("error", () => {});
    for (const end of ["end", "close"]) {
      socket.on(end, () => {
        this.#core.closed(id, this.#now());
        this.#carryOut();
      });
    }
  }

  /** Does what the last turn said. */
  #carryOut() {
    const bytes = this.#core.output_bytes();
    // A copy: the memory is the module's again with the next call.
    const records = Buffer.from(new Uint8Array(this.#core.memory.buffer, this.#core.output(), bytes));
    for (let at = 0; at < records.length; ) {
      const [what, id, length] = [records[at], records.readBigUInt64LE(at + 1), records.readUInt32LE(at + 9)];
      at += RECORD_BYTES;
      const socket = this.#sockets.get(id);
      if (what === SEND) socket.write(records.subarray(at, at + length), () => this.#written(id, length));
      if (what === SHUTDOWN) socket.end();
      if (what === CLOSE) {
        this.#sockets.delete(id);
        socket.destroySoon();
      }
      at += length;
    }
    clearTimeout(this.#timer);
    const next = BigInt.asUintN(64, this.#core.next_timeout());
    if (next === NONE) return;
    const micros = next - this.#now();
    this.#timer = setTimeout(() => this.#timeout(), micros > 0n ? Number(micros / 1_000n) + 1 : 0);
  }

  #written(id, length) {
    this.#core.written(id, length, this.#now());
    this.#carryOut();
  }

  #timeout() {
    this.#core.timeout(this.#now());
    this.#carryOut();
  }
}

/** Where `.ci/purity wasm` leaves the module. */
function builtModule() {
  const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../target", import.meta.url));
  return `${target}/purity/wasm32-unknown-unknown/release/fanfare_core_alone.wasm`;
}

async function main([port = "8080", path = builtModule()]) {
  try {
    const listening = await new FanfareServer(path).listen(port);
    console.log(`listening on 127.0.0.1:${listening}`);
  } catch (error) {
    console.error(error.message);
    if (error.code === "ENOENT") console.error("The module is not built: .ci/purity wasm builds it.");
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
