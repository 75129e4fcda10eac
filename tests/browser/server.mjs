// The real server as a child process: started on a free port, ready when it says so, and never left behind. Around it, a
// redis-server and a reverse proxy. What the tests expect of them is not here.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { connect, createServer } from 'node:net';
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
export async function freePort() {
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

/** The same, and waits until it is ready. */
export async function startReadyServer(port, ...args) {
  const server = await startServer(port, ...args);
  await until('the server is ready', () => fetch(`${server.url}/readyz`).then(({ status }) => status === 200, () => false));
  return server;
}

/** Starts a redis-server that keeps nothing. */
export async function startRedis(port) {
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', '/tmp'];
  const child = spawn('redis-server', args, { stdio: 'ignore' });
  let failure = '';
  child.on('error', (error) => { failure = error.message; });
  const answers = () => new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.on('data', () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });
  await until('redis-server answers', () => {
    if (failure || child.exitCode !== null) throw new Error(`redis-server did not start: ${failure}`);
    return answers();
  });
  return {
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

/** A reverse proxy as people configure it: what comes below `path`, upgrades too, goes to the port without it; 502 if nobody is there. */
export async function startProxy(path, port) {
  const inner = (url) => (url === path.slice(0, -1) ? '/' : url.startsWith(path) ? url.slice(path.length - 1) : null);
  const sockets = new Set();
  const proxy = http.createServer((request, response) => {
    const below = inner(request.url);
    if (below === null) return response.writeHead(404).end();
    const upstream = http.request({ port, host: '127.0.0.1', path: below, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on('error', () => response.writeHead(502).end());
    request.pipe(upstream);
  });
  proxy.on('connection', (socket) => sockets.add(socket.on('close', () => sockets.delete(socket))));
  proxy.on('upgrade', (request, socket, head) => {
    const below = inner(request.url);
    if (below === null) return socket.end('HTTP/1.1 404 Not Found\r\n\r\n');
    const upstream = connect(port, '127.0.0.1', () => {
      const fields = request.rawHeaders.map((text, at) => text + (at % 2 ? '\r\n' : ': ')).join('');
      upstream.write(`GET ${below} HTTP/1.1\r\n${fields}\r\n`);
      upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
    upstream.on('close', () => socket.destroy());
    socket.on('error', () => upstream.destroy());
    socket.on('close', () => upstream.destroy());
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    async stop() {
      sockets.forEach((socket) => socket.destroy());
      proxy.close();
      await once(proxy, 'close');
    },
  };
}
