// What the EventSource of a real browser hears: events of a room, across a restart of its server without a loss; and who is let in. The
// servers are on the Redis whose URL is the argument.
// Run: npm ci && FANFARE_BIN=../../target/release/fanfare node events.test.mjs redis://127.0.0.1:6379

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { claimsOf, mint } from '../node/tokens.mjs';
import { launchBrowser, startOtherPage } from './browser.mjs';
import { freePort, startReadyServer, until } from './server.mjs';

const SECRET = 'a secret of thirty-two bytes or more';

const ROOMS = '[[rooms]]\nmatch = "chat:*"\nhistory_messages = 100\n\n';

let browser, other, folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-events-'));
  await writeFile(join(folder, 'open.toml'), ROOMS);
  await writeFile(join(folder, 'guarded.toml'), `${ROOMS}[[rooms]]\nmatch = "own:{user}"\nsubscribe = "self"\n`);
  browser = await launchBrowser();
  other = await startOtherPage();
});

after(async () => {
  await browser?.close();
  other?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A server that is ready, with this configuration of rooms. */
function start(port, rooms, ...further) {
  return startReadyServer(port, '--config', join(folder, `${rooms}.toml`), '--redis-url', process.argv[2], ...further);
}

/** Has node publish texts to a room, one after the other, each acknowledged. */
async function publish(server, room, texts) {
  const socket = new WebSocket(server.ws);
  await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
  for (const message of texts) {
    const answer = new Promise((resolve) => { socket.onmessage = ({ data }) => resolve(JSON.parse(data)); });
    socket.send(JSON.stringify({ type: 'SEND_MESSAGE', room, message, id: 1 }));
    assert.equal((await answer).type, 'ACK');
  }
  socket.close();
}

/** Opens an EventSource on a page of `at`; what it hears is in `heard` there. */
async function listen(at, url, options = {}) {
  const page = await (await browser.newContext()).newPage();
  await page.goto(at);
  await page.evaluate(([url, options]) => {
    window.heard = [];
    window.source = new EventSource(url, options);
    for (const type of ['SUBSCRIBED', 'MESSAGE', 'GAP', 'CLOSED']) {
      source.addEventListener(type, ({ data }) => heard.push(type === 'MESSAGE' ? JSON.parse(data).message : type));
    }
  }, [url, options]);
  return page;
}

const heard = (page) => page.evaluate(() => window.heard);
const hears = (page, count) => until(`it hears ${count}`, async () => (await heard(page)).length >= count);

test('an EventSource goes on by itself where it was', async () => {
  const port = await freePort();
  let first = await start(port, 'open');
  const second = await start(undefined, 'open');
  for (const query of ['room=chat:1', 'room=chat:2&room=chat:3']) {
    const page = await listen(first.url, `/sse?${query}`);
    const rooms = query.split('&').length;
    await hears(page, rooms);
    const room = query.split(/[=&]/)[1];
    await publish(second, room, ['a', 'b']);
    await hears(page, rooms + 2);
    await first.stop();
    await publish(second, room, ['c', 'd']);
    first = await start(port, 'open');
    await publish(second, room, ['e']);
    await until('it hears the last', async () => (await heard(page)).includes('e'));
    const texts = (await heard(page)).filter((text) => text.length === 1);
    assert.deepEqual(texts, ['a', 'b', 'c', 'd', 'e'], query);
    assert.ok(!(await heard(page)).includes('GAP'));
    await page.close();
  }
  await first.stop();
  await second.stop();
});

test('a page of another origin listens where it may', async () => {
  const server = await start(undefined, 'open', '--origins', other.url);
  const page = await listen(other.url, `${server.url}/sse?room=chat:4`, { withCredentials: true });
  await hears(page, 1);
  await publish(server, 'chat:4', ['a']);
  await hears(page, 2);
  await page.close();
  await server.stop();
  const closed = await start(undefined, 'open');
  const refused = await listen(other.url, `${closed.url}/sse?room=chat:4`);
  await until('it is refused', () => refused.evaluate(() => source.readyState === EventSource.CLOSED));
  await refused.close();
  await closed.stop();
});

test('credentials decide who hears what', async () => {
  const server = await start(undefined, 'guarded', '--auth-secret', SECRET, '--auth-cookie', 'jwt', '--auth-cookie-holds', 'token');
  const token = mint(claimsOf('ann'), { key: SECRET });
  const isClosed = (page) => until('it is refused', () => page.evaluate(() => source.readyState === EventSource.CLOSED));
  await isClosed(await listen(server.url, '/sse?room=chat:5'));
  await isClosed(await listen(server.url, `/sse?room=own:bob&token=${token}`));
  await hears(await listen(server.url, `/sse?room=own:ann&token=${token}`), 1);
  // A page of the server's own host sends its cookies, and no Origin.
  const context = await browser.newContext();
  await context.addCookies([{ name: 'jwt', value: token, url: server.url, sameSite: 'Lax' }]);
  const page = await context.newPage();
  await page.goto(server.url);
  const type = await page.evaluate(() => new Promise((resolve) => {
    const source = new EventSource('/sse?room=own:ann');
    source.addEventListener('SUBSCRIBED', () => resolve('SUBSCRIBED'));
    source.onerror = () => resolve('refused');
  }));
  assert.equal(type, 'SUBSCRIBED');
  await server.stop();
});
