// What a real browser makes of the answers to its upgrades: pages of this host and of others, subprotocols, tokens and cookies.
// Run: npm ci && FANFARE_BIN=../../target/release/fanfare node --test connecting.test.mjs (CHROMIUM names another browser binary)

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { claimsOf, mint } from '../node/tokens.mjs';
import { startServer } from './server.mjs';

/** A page whose origin is opaque. */
const FILE = new URL('package.json', import.meta.url).href;

let browser, other, otherUrl;

before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  // A page of another port, which is another origin.
  other = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>x</title>'));
  await once(other.listen(0, '127.0.0.1'), 'listening');
  otherUrl = `http://127.0.0.1:${other.address().port}`;
});

after(async () => {
  await browser?.close();
  other?.closeAllConnections();
  other?.close();
});

/** Runs `body` with a server started with these arguments, and with `connect(page, url, protocols)` for pages at URLs, and `enter`. */
async function against(args, body) {
  const server = await startServer(undefined, ...args);
  const context = await browser.newContext();
  const onPage = async (url, script, of) => {
    const page = await context.newPage();
    await page.goto(url);
    const outcome = await page.evaluate(script, of);
    await page.close();
    return outcome;
  };
  /** The subprotocol of an open connection, or `failed`. */
  const connect = (url, ...of) => onPage(url, (of) => new Promise((resolve) => {
    const socket = new WebSocket(...of);
    socket.onopen = () => resolve(`open ${socket.protocol}`.trim());
    socket.onerror = () => resolve('failed');
  }), of);
  /** The room of which an open connection is told first, with its subprotocol; or `failed`. */
  const enter = (url, ...of) => onPage(url, (of) => new Promise((resolve) => {
    const socket = new WebSocket(...of);
    socket.onmessage = ({ data }) => resolve(`${JSON.parse(data).room} ${socket.protocol}`.trim());
    socket.onerror = () => resolve('failed');
  }), of);
  try {
    await body(server, connect, { context, enter });
  } finally {
    await context.close();
    await server.stop();
  }
}

const at = ({ port }, path) => `ws://127.0.0.1:${port}${path}`;

test('the pages of the same host may connect, and no others', () => against([], async (server, connect) => {
  assert.equal(await connect(server.url, at(server, '/ws')), 'open');
  // The same machine, but another origin.
  assert.equal(await connect(server.url.replace('127.0.0.1', 'localhost'), at(server, '/ws')), 'failed');
  assert.equal(await connect(otherUrl, at(server, '/ws')), 'failed');
  assert.equal(await connect(FILE, at(server, '/ws')), 'failed');
}));

test('a list names other pages, and a star is all of them', async () => {
  await against(['--origins', otherUrl], async (server, connect) => {
    assert.equal(await connect(otherUrl, at(server, '/ws')), 'open');
    assert.equal(await connect(server.url, at(server, '/ws')), 'failed');
  });
  await against(['--origins', '*'], async (server, connect) => {
    assert.equal(await connect(otherUrl, at(server, '/ws')), 'open');
    assert.equal(await connect(FILE, at(server, '/ws')), 'open');
  });
});

test('clients of Node servers get the first subprotocol that they offer', () => against([], async (server, connect) => {
  for (const path of ['/classic', '/broadcast', '/broadcast/r/']) {
    assert.equal(await connect(server.url, at(server, path), 'chat'), 'open chat');
    assert.equal(await connect(server.url, at(server, path), ['bearer', 'abc.def']), 'open bearer');
    assert.equal(await connect(server.url, at(server, path), ['fanfare.token.s3cret', 'chat']), 'open chat');
  }
  assert.equal(await connect(server.url, at(server, '/ws'), ['chat', 'fanfare.v1']), 'open fanfare.v1');
  assert.equal(await connect(server.url, at(server, '/ws'), 'chat'), 'failed');
}));

test('fanfare selects the first subprotocol where it is told to', () => against(['--subprotocols', 'first'], async (server, connect) => {
  assert.equal(await connect(server.url, at(server, '/ws'), 'chat'), 'open chat');
  assert.equal(await connect(server.url, at(server, '/ws'), ['bearer', 'abc.def']), 'open bearer');
}));

const SECRET = 'a secret of thirty-two bytes or more';
const ALICE = mint(claimsOf('alice'), { key: SECRET });
const FORGED = mint(claimsOf('alice'), { key: 'another secret of more than thirty-two bytes' });

test('a page shows its token in a subprotocol or in the query', () => against(['--auth-secret', SECRET], async (server, connect, { enter }) => {
  const url = at(server, '/ws');
  assert.equal(await enter(server.url, url, ['fanfare.v1', `fanfare.token.${ALICE}`]), 'user:alice fanfare.v1');
  assert.equal(await enter(server.url, `${url}?token=${ALICE}`), 'user:alice');
  assert.equal(await enter(server.url, url, ['fanfare.v1', `fanfare.token.${FORGED}`]), 'failed');
  assert.equal(await enter(server.url, `${url}?token=${FORGED}`), 'failed');
  // Nobody, who has to say in a moment who it is.
  assert.equal(await connect(server.url, url), 'open');
  // A right token makes another page no better.
  assert.equal(await enter(otherUrl, `${url}?token=${ALICE}`), 'failed');
}));

test('a cookie counts for pages of its own origin', () => {
  const args = ['--auth-secret', SECRET, '--auth-cookie', 'jwt', '--auth-cookie-holds', 'token'];
  return against(args, async (server, connect, { context, enter }) => {
    const url = at(server, '/ws');
    await context.addCookies([{ name: 'jwt', value: ALICE, url: server.url, httpOnly: true }]);
    assert.equal(await enter(server.url, url), 'user:alice');
    // The browser sends it for the other page as well, because a port does not part cookies.
    assert.equal(await connect(otherUrl, url), 'failed');
    await context.addCookies([{ name: 'jwt', value: FORGED, url: server.url, httpOnly: true }]);
    assert.equal(await connect(server.url, url), 'failed');
  });
});

test('the operations port is not read by pages, nor under a name that leads to it', async () => {
  const probe = createServer();
  await once(probe.listen(0, '127.0.0.1'), 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  await against(['--ops-listen', `127.0.0.1:${port}`], async () => {
    const page = await browser.newPage();
    assert.equal((await page.goto(`http://localhost:${port}/readyz`)).status(), 200);
    assert.equal((await page.goto(`http://127.0.0.1:${port}/metrics`)).status(), 200);
    // A browser leads every name below `localhost` to this machine, as a rebound name is led there.
    assert.equal((await page.goto(`http://rebound.localhost:${port}/metrics`)).status(), 421);
    // Another site, as the browser sees it.
    await page.goto(otherUrl.replace('127.0.0.1', 'localhost'));
    const loaded = page.waitForResponse(`http://127.0.0.1:${port}/metrics`);
    await page.evaluate((url) => { new Image().src = url; }, `http://127.0.0.1:${port}/metrics`);
    assert.equal((await loaded).status(), 403);
    await page.close();
  });
});
