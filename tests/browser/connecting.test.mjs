// What a real browser makes of the answers to its upgrades: pages of this host and of others, subprotocols, tokens and cookies. The servers
// are on the Redis whose URL is the argument, if there is one.
// Run: npm ci && FANFARE_BIN=../../target/release/fanfare node --test connecting.test.mjs (CHROMIUM names another browser binary)

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { claimsOf, mint } from '../node/tokens.mjs';
import { launchBrowser, startOtherPage } from './browser.mjs';
import { startReadyServer } from './server.mjs';

/** A page whose origin is opaque. */
const FILE = new URL('package.json', import.meta.url).href;

const BROKER = process.argv[2] ? ['--redis-url', process.argv[2]] : [];

let browser, other;

before(async () => {
  browser = await launchBrowser();
  other = await startOtherPage();
});

after(async () => {
  await browser?.close();
  other?.stop();
});

/** Runs `body` with a server started with these arguments, and with `connect(page, url, protocols)` for pages at URLs, `enter` and others. */
async function against(args, body) {
  const server = await startReadyServer(undefined, ...BROKER, ...args);
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
    socket.onclose = ({ code }) => resolve(`closed ${code}`);
  }), of);
  /** The code by which a connection is closed after it has opened; or `failed`. */
  const closes = (url, ...of) => onPage(url, (of) => new Promise((resolve) => {
    const socket = new WebSocket(...of);
    let isOpen = false;
    socket.onopen = () => { isOpen = true; };
    socket.onclose = ({ code }) => resolve(isOpen ? code : 'failed');
  }), of);
  /** What each of the texts is answered, one after the other. */
  const says = (url, ws, texts) => onPage(url, async ([ws, texts]) => {
    const socket = new WebSocket(ws);
    await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
    const answers = [];
    for (const text of texts) {
      socket.send(text);
      answers.push(JSON.parse(await new Promise((resolve, reject) => {
        Object.assign(socket, { onmessage: ({ data }) => resolve(data), onclose: ({ code }) => reject(new Error(`closed ${code}`)) });
      })));
    }
    return answers;
  }, [ws, texts]);
  try {
    await body(server, connect, { context, enter, closes, says });
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
  assert.equal(await connect(other.url, at(server, '/ws')), 'failed');
  assert.equal(await connect(FILE, at(server, '/ws')), 'failed');
}));

test('a list names other pages, and a star is all of them', async () => {
  await against(['--origins', other.url], async (server, connect) => {
    assert.equal(await connect(other.url, at(server, '/ws')), 'open');
    assert.equal(await connect(server.url, at(server, '/ws')), 'failed');
  });
  await against(['--origins', '*'], async (server, connect) => {
    assert.equal(await connect(other.url, at(server, '/ws')), 'open');
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
const BOB = mint(claimsOf('bob'), { key: SECRET });
const EXPIRED = mint(claimsOf('alice', { exp: Math.floor(Date.now() / 1000) - 3600 }), { key: SECRET });
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
  assert.equal(await enter(other.url, `${url}?token=${ALICE}`), 'failed');
}));

test('a cookie counts for pages of its own origin', () => {
  const args = ['--auth-secret', SECRET, '--auth-cookie', 'jwt', '--auth-cookie-holds', 'token'];
  return against(args, async (server, connect, { context, enter }) => {
    const url = at(server, '/ws');
    await context.addCookies([{ name: 'jwt', value: ALICE, url: server.url, httpOnly: true }]);
    assert.equal(await enter(server.url, url), 'user:alice');
    // The browser sends it for the other page as well, because a port does not part cookies.
    assert.equal(await connect(other.url, url), 'failed');
    await context.addCookies([{ name: 'jwt', value: FORGED, url: server.url, httpOnly: true }]);
    assert.equal(await connect(server.url, url), 'failed');
  });
});

test('a page shows its token in a command', () => {
  return against(['--auth-secret', SECRET, '--auth-own-rooms', 'off'], async (server, _, { says }) => {
    const auth = (token, id) => JSON.stringify({ type: 'AUTH', token, id });
    const subscribe = (id) => JSON.stringify({ type: 'SUBSCRIBE', room: 'tea', id });
    const texts = [subscribe(1), auth(FORGED, 2), subscribe(3), auth(ALICE, 4), subscribe(5), auth(BOB, 6)];
    const answers = await says(server.url, at(server, '/ws'), texts);
    const told = answers.map(({ type, code, user, id }) => [type, code ?? user ?? null, id]);
    assert.deepEqual(told, [
      ['ERROR', 'unauthorised', 1],
      ['ERROR', 'unauthorised', 2],
      ['ERROR', 'unauthorised', 3],
      ['AUTHENTICATED', 'alice', 4],
      ['SUBSCRIBED', null, 5],
      ['ERROR', 'forbidden', 6],
    ]);
  });
});

test('a page can read by which code it is refused, in every place, where the server says so', () => {
  const args = ['--auth-secret', SECRET, '--auth-refuse', 'close', '--auth-cookie', 'jwt', '--auth-cookie-holds', 'token'];
  return against(args, async (server, _, { context, enter, closes }) => {
    const url = at(server, '/ws');
    const protocols = (token) => ['fanfare.v1', `fanfare.token.${token}`];
    for (const [token, code] of [[FORGED, 4501], [EXPIRED, 4001]]) {
      assert.equal(await closes(server.url, `${url}?token=${token}`), code);
      assert.equal(await closes(server.url, url, protocols(token)), code);
      await context.addCookies([{ name: 'jwt', value: token, url: server.url, httpOnly: true }]);
      assert.equal(await closes(server.url, url), code);
      // The page of another origin is told nothing.
      assert.equal(await closes(other.url, url), 'failed');
    }
    await context.clearCookies();
    for (const path of ['/classic', '/broadcast/tea']) {
      assert.equal(await closes(server.url, at(server, path)), 4501);
    }
    assert.equal(await enter(server.url, url, protocols(ALICE)), 'user:alice fanfare.v1');
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
    await page.goto(other.url.replace('127.0.0.1', 'localhost'));
    const loaded = page.waitForResponse(`http://127.0.0.1:${port}/metrics`);
    await page.evaluate((url) => { new Image().src = url; }, `http://127.0.0.1:${port}/metrics`);
    assert.equal((await loaded).status(), 403);
    await page.close();
  });
});
