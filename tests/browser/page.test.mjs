// The page at `GET /` as a person meets it: Chromium, the real server, and a second client where one is needed.
// Run: npm ci && FANFARE_BIN=../../target/release/fanfare npm test (CHROMIUM names another browser binary)

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, afterEach, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import WebSocket from 'ws';
import { startServer, until } from './server.mjs';

const DEADLINE_MS = 15_000;

let browser, server;
let contexts = [], complaints = [];

before(async () => {
  server = await startServer();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
      '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  await Promise.all(contexts.map((context) => context.close()));
  const raised = complaints;
  contexts = [];
  complaints = [];
  assert.deepEqual(raised, [], 'the page complains');
});

/** A page in a browser context of its own. Whatever it reports as an error fails the test, policy violations included. */
async function open({ url = server.url, hash = '', prepare = () => {}, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  contexts.push(context);
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('dialog', (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('console', (message) => {
    // The browser itself reports a server that is away; the page has no say in it.
    if (message.type() === 'error' && !message.text().startsWith('WebSocket connection to')) complaints.push(message.text());
  });
  await prepare(page);
  await page.goto(`${url}/${hash}`);
  return page;
}

const phase = (page, text) => page.locator('#phase', { hasText: text }).waitFor();
const roomEntry = (page, name) => page.locator('#rooms li').filter({ has: page.getByText(name, { exact: true }) });
const said = (page, text) => page.locator('.said', { has: page.getByText(text, { exact: true }) });

async function join(page, name) {
  await page.getByLabel('Room to join').fill(name);
  await page.getByRole('button', { name: 'Join', exact: true }).click();
  await page.locator('#rooms li[data-state=joined]').filter({ has: page.getByText(name, { exact: true }) }).waitFor();
}

async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

const delivered = (page, text) => said(page, text).and(page.locator('.delivered')).waitFor();

/** A member that is no browser: can send any JSON value, and many of them. */
async function member(room) {
  const socket = new WebSocket(server.ws);
  const events = [];
  socket.on('message', (data) => events.push(JSON.parse(data)));
  await once(socket, 'open');
  const command = (fields) => socket.send(JSON.stringify(fields));
  command({ type: 'SUBSCRIBE', room });
  await until('the member has joined', () => events.some(({ type }) => type === 'SUBSCRIBED'));
  return { events, send: (message) => command({ type: 'SEND_MESSAGE', roomId: room, message }), close: () => socket.terminate() };
}

/** The events the page received from the server, in order. */
function received(page) {
  const events = [];
  page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => events.push(JSON.parse(payload))));
  return events;
}

test('the page is one document under a policy that allows nothing from elsewhere', async () => {
  const requests = [];
  const page = await open({ prepare: (p) => p.on('request', (request) => requests.push(request.url())) });
  await phase(page, 'Connected');
  assert.deepEqual(requests.filter((url) => !url.startsWith('data:')), [`${server.url}/`]);
  const { headers } = await fetch(server.url);
  assert.match(headers.get('content-type'), /^text\/html/);
  assert.match(headers.get('content-security-policy'), /default-src 'none'/);
});

test('two pages in one room see what each other says, in one order', async () => {
  const [ann, ben] = await Promise.all([open(), open()]);
  await Promise.all([join(ann, 'exchange'), join(ben, 'exchange')]);
  await say(ann, 'hello from ann');
  await said(ben, 'hello from ann').waitFor();
  await say(ben, 'hello from ben');
  await said(ann, 'hello from ben').waitFor();
  await delivered(ann, 'hello from ann');
  await delivered(ben, 'hello from ben');
  for (const page of [ann, ben]) {
    assert.deepEqual(await page.locator('.said p').allTextContents(), ['hello from ann', 'hello from ben']);
  }
  await ann.locator('#latency', { hasText: /^\d+ ms$/ }).waitFor();
});

test('the page needs its own dialect, whatever other clients speak at /', async () => {
  const classic = await startServer(undefined, '--default-dialect', 'classic');
  try {
    const page = await open({ url: classic.url });
    await join(page, 'dialects');
    await say(page, 'hello');
    await delivered(page, 'hello');
  } finally {
    await classic.stop();
  }
});

test('hostile text stays text, in messages, room names and links', async () => {
  const attack = '<img src=x onerror="window.taken=1"><script>window.taken=1</script>';
  const [ann, ben] = await Promise.all([open(), open({ hash: `#${encodeURIComponent(attack)}` })]);
  await join(ann, attack);
  await roomEntry(ben, attack).waitFor();
  await say(ann, attack);
  await said(ben, attack).waitFor();
  for (const page of [ann, ben]) {
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.equal(await page.evaluate(() => window.taken), undefined);
  }
});

test('values that are not text are shown as compact JSON', async () => {
  const page = await open();
  await join(page, 'values');
  const other = await member('values');
  for (const value of [{ a: [1, null, '<b>'] }, 7, null, false, '']) other.send(value);
  await until('five messages', async () => await page.locator('.said').count() === 5);
  assert.deepEqual(await page.locator('.said p').allTextContents(), ['{"a":[1,null,"<b>"]}', '7', 'null', 'false', '']);
  other.close();
});

test('the browser agrees upon compression, and long messages come whole', async () => {
  const page = await open();
  const said = await page.evaluate(async (text) => {
    const socket = new WebSocket(location.href.replace(/^http/, 'ws').replace(/#.*/, ''));
    const next = () => new Promise((resolve) => { socket.onmessage = ({ data }) => resolve(JSON.parse(data)); });
    await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject; });
    socket.send('{"type":"SUBSCRIBE","room":"long"}');
    await next();
    socket.send(JSON.stringify({ type: 'SEND_MESSAGE', roomId: 'long', message: text }));
    const { message } = await next();
    socket.close();
    return { extensions: socket.extensions, message };
  }, 'żółć again '.repeat(3000));
  assert.match(said.extensions, /^permessage-deflate/);
  assert.equal(said.message, 'żółć again '.repeat(3000));
});

test('several rooms are kept apart, and a link opens one of them', async () => {
  const [ann, ben] = await Promise.all([open({ hash: '#apart%20one' }), open({ hash: '#apart%20one' })]);
  await join(ann, 'apart two');
  await ben.locator('#rooms [data-state=joined]').waitFor();
  await say(ben, 'only in one');
  await roomEntry(ann, 'apart one').locator('.badge', { hasText: '1' }).waitFor();
  assert.equal(await ann.locator('.said').count(), 0);
  await roomEntry(ann, 'apart one').locator('.pick').click();
  await said(ann, 'only in one').waitFor();
  assert.equal(new URL(ann.url()).hash, '#apart%20one');
  assert.equal(await roomEntry(ann, 'apart one').locator('.badge').textContent(), '');
});

test('a room that was left sends nothing more', async () => {
  const [ann, ben] = await Promise.all([open(), open({ prepare: (page) => { page.events = received(page); } })]);
  for (const page of [ann, ben]) for (const room of ['kept', 'left']) await join(page, room);
  await ben.getByRole('button', { name: 'Leave left' }).click();
  await until('the server confirms', () => ben.events.some(({ type, room }) => type === 'UNSUBSCRIBED' && room === 'left'));
  assert.equal(await roomEntry(ben, 'left').count(), 0);
  await say(ann, 'to the room that was left');
  await delivered(ann, 'to the room that was left');
  await roomEntry(ann, 'kept').locator('.pick').click();
  await say(ann, 'to the room that was kept');
  await said(ben, 'to the room that was kept').waitFor();
  assert.deepEqual(ben.events.filter(({ type }) => type === 'MESSAGE').map(({ room }) => room), ['kept']);
});

test('the keyboard alone joins, sends, switches and leaves', async () => {
  const page = await open();
  await phase(page, 'Connected');
  const press = (...keys) => keys.reduce((done, key) => done.then(() => page.keyboard.press(key)), Promise.resolve());
  const focused = () => page.evaluate(() => document.activeElement.ariaLabel || document.activeElement.labels?.[0]?.textContent || document.activeElement.textContent);

  await press('Tab');
  assert.equal(await focused(), 'Disconnect');
  await press('Tab');
  assert.equal(await focused(), 'Room to join');
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
  await press('Enter');
  await page.locator('[data-state=joined]', { hasText: 'lobby' }).waitFor();
  assert.equal(await focused(), 'Message');
  await page.keyboard.type('typed');
  await press('Shift+Enter');
  await page.keyboard.type('in two lines');
  await press('Enter');
  await delivered(page, 'typed\nin two lines');
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), '');

  const order = [];
  for (const _ of Array(4)) {
    await press('Shift+Tab');
    order.push(await focused());
  }
  assert.deepEqual([order[0].startsWith('Messages in'), ...order.slice(1)], [true, 'Leave lobby', 'lobby', 'Join']);
  await press('Tab', 'Tab', 'Enter');
  await roomEntry(page, 'lobby').waitFor({ state: 'detached' });
  assert.equal(await focused(), 'Room to join');
});

test('nothing is wider than a small phone', async () => {
  const page = await open({ viewport: { width: 360, height: 640 } });
  await join(page, 'w'.repeat(128));
  await join(page, 'narrow');
  await say(page, 'x'.repeat(3000));
  await delivered(page, 'x'.repeat(3000));
  await page.getByText('Use it from your own code').click();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 360);
  const wide = await page.evaluate(() => [...document.querySelectorAll('body *')]
    .filter((node) => node.getBoundingClientRect().right > 360).map((node) => node.outerHTML.slice(0, 80)));
  assert.deepEqual(wide, []);
});

test('the lines for one\'s own code work as they are printed', async () => {
  const page = await open();
  await join(page, 'snippet "quoted"');
  await page.getByText('Use it from your own code').click();
  const code = await page.locator('#snippet').textContent();
  assert.ok(code.includes(server.ws));
  await page.addScriptTag({ content: code });
  await said(page, 'Hello').waitFor();
});

test('a room keeps its last 500 messages', async () => {
  const page = await open();
  await join(page, 'busy');
  const other = await member('busy');
  for (let n = 1; n <= 700; n++) other.send(`number ${n}`);
  await said(page, 'number 700').waitFor();
  assert.equal(await page.locator('.said').count(), 500);
  assert.equal(await page.locator('.said p').first().textContent(), 'number 201');
  other.close();
});

test('a room the server refuses is named, with the reason', async () => {
  const page = await open();
  await phase(page, 'Connected');
  await page.getByLabel('Room to join').fill('é'.repeat(128));
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: /^Could not join .+\(room_invalid\)$/ }).waitFor();
  assert.equal(await page.locator('#rooms li').count(), 0);
});

for (const signal of ['SIGTERM', 'SIGKILL']) {
  test(`after ${signal} and a new start the page is back in its rooms by itself`, async (t) => {
    let own = await startServer();
    t.after(() => own.stop('SIGKILL'));
    const [ann, ben] = await Promise.all([open({ url: own.url }), open({ url: own.url })]);
    for (const page of [ann, ben]) for (const room of ['aside', 'back']) await join(page, room);
    await own.stop(signal);
    await Promise.all([ann, ben].map((page) => phase(page, /Reconnecting in \d+ s/)));
    await say(ann, 'written while away');
    await said(ann, 'written while away').and(ann.locator('.waiting')).waitFor();
    own = await startServer(own.port);
    await Promise.all([ann, ben].map((page) => until('both rooms are joined again',
      async () => await page.locator('#rooms [data-state=joined]').count() === 2)));
    await delivered(ann, 'written while away');
    await say(ben, 'after');
    await said(ann, 'after').waitFor();
    await say(ann, 'also after');
    await said(ben, 'also after').waitFor();
    assert.equal(await said(ann, 'written while away').count(), 1);
  });
}

test('a message is pending until its ACK; a refused one says why and can be sent again', async () => {
  let answer = 'hold';
  const held = [];
  const page = await open({
    prepare: (p) => p.routeWebSocket(/\/fanfare$/, (route) => {
      const upstream = route.connectToServer();
      route.onMessage((text) => {
        const { type, id } = JSON.parse(text);
        if (type === 'SEND_MESSAGE' && answer === 'refuse') {
          route.send(JSON.stringify({ type: 'ERROR', code: 'broker_unavailable', reason: 'the broker is away', id }));
        } else upstream.send(text);
      });
      upstream.onMessage((text) => {
        if (JSON.parse(text).type === 'ACK' && answer === 'hold') held.push(() => route.send(text)); else route.send(text);
      });
    }),
  });
  await join(page, 'pending');
  await say(page, 'slowly');
  await said(page, 'slowly').and(page.locator('.sending')).waitFor();
  (await until('an ACK', () => held.pop()))();
  await delivered(page, 'slowly');

  answer = 'refuse';
  await say(page, 'again');
  await said(page, 'again').getByText('Not sent: the broker is away (broker_unavailable)').waitFor();
  answer = 'pass';
  await said(page, 'again').getByRole('button', { name: 'Retry' }).click();
  await delivered(page, 'again');
  assert.equal(await said(page, 'again').count(), 1);
});

/** A page whose connections the test can close, on a clock that the test moves. */
async function openOnClock({ mute = () => false } = {}) {
  const routes = [];
  const page = await open({
    prepare: async (p) => {
      await p.clock.install();
      await p.routeWebSocket(/\/fanfare$/, (route) => {
        const upstream = route.connectToServer();
        routes.push(route);
        upstream.onMessage((text) => { if (!mute(JSON.parse(text))) route.send(text); });
      });
    },
  });
  await join(page, 'clock');
  return { page, routes };
}

test('a close with 4500 to 4999 is final until the person connects again', async () => {
  const { page, routes } = await openOnClock();
  await routes[0].close({ code: 4509, reason: 'too many errors' });
  await phase(page, 'Closed');
  await page.getByRole('alert').filter({ hasText: 'too many errors (4509)' }).waitFor();
  await page.clock.fastForward(300_000);
  assert.equal(routes.length, 1);
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
  await page.locator('#rooms [data-state=joined]').waitFor();
  assert.equal(routes.length, 2);
});

test('a close with 4000 to 4499 is followed by a new connection', async () => {
  const { page, routes } = await openOnClock();
  await routes[0].close({ code: 4008, reason: 'too slow' });
  await until('a second connection', async () => { await page.clock.runFor(1000); return routes.length === 2; });
  await page.locator('#rooms [data-state=joined]').waitFor();
});

test('a server that stops answering is taken for gone', async () => {
  let silent = false;
  const { page, routes } = await openOnClock({ mute: ({ type }) => silent && type === 'PONG' });
  await page.locator('#latency', { hasText: 'ms' }).waitFor();
  silent = true;
  await page.clock.runFor(25_000);
  assert.equal(routes.length, 1);
  await until('a second connection', async () => { await page.clock.runFor(1000); return routes.length === 2; });
  await page.locator('#rooms [data-state=joined]').waitFor();
});
