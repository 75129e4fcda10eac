// The real server as a child process: started on a free port, ready when it says so, and never left behind.
// What the tests expect of it is not here.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

/** Longer than a loaded machine needs for a start or a stop; only a broken server reaches it. */
const DEADLINE_MS = 15_000;
const POLL_MS = 20;

const binary = process.env.FANFARE_BIN;
if (!binary) {
  console.error('FANFARE_BIN must name the server binary, for example FANFARE_BIN=target/release/fanfare');
  process.exit(2);
}

/** Resolves with the first truthy answer of `fact`; fails with `what` when there is none in time. */
export async function until(what, fact) {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const answer = await fact();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await pause(POLL_MS);
  }
}

/** A port nobody listens on. It can be lost to another process before its use; a start that fails says so. */
async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** Starts a server; with `port` it takes the place of an earlier one. */
export async function startServer(port, ...args) {
  port ??= await freePort();
  // The person's own settings must not reach the server under test.
  const env = Object.fromEntries(Object.entries(process.env)
    .filter(([name]) => !name.startsWith('FANFARE_') && name !== 'PORT' && name !== 'REDIS_URL'));
  const child = spawn(binary, ['--listen', `127.0.0.1:${port}`, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '', failure = '';
  child.stderr.on('data', (chunk) => { log = (log + chunk).slice(-4000); });
  child.on('error', (error) => { failure = error.message; });
  const running = () => !failure && child.exitCode === null && child.signalCode === null;

  const url = `http://127.0.0.1:${port}`;
  const server = {
    port,
    url,
    ws: `ws://127.0.0.1:${port}/fanfare`,
    async stop(signal = 'SIGTERM') {
      if (!running()) return;
      const gone = once(child, 'exit');
      child.kill(signal);
      const last = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS);
      await gone;
      clearTimeout(last);
    },
  };
  try {
    await until('the server is ready', async () => {
      if (!running()) throw new Error(`the server did not start: ${failure || log}`);
      return fetch(`${url}/healthz`).then(({ status }) => status === 200, () => false);
    });
  } catch (error) {
    await server.stop('SIGKILL');
    throw error;
  }
  return server;
}
