// The page at `GET /` as a person meets it: Chromium, the real server, and a second client where one is needed.
// Run: npm ci && FANFARE_BIN=../../target/release/fanfare npm test (CHROMIUM names another browser binary)

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, afterEach, before, test } from 'node:test';
import WebSocket from 'ws';
import { launchBrowser } from './browser.mjs';
import { freePort, startProxy, startRedis, startServer, until } from './server.mjs';

const DEADLINE_MS = 15_000;

let browser, server;
let contexts = [], complaints = [];

before(async () => {
  server = await startServer();
  browser = await launchBrowser();
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
async function open({ url = server.url, path = '/', hash = '', prepare = () => {}, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  contexts.push(context);
  context.setDefaultTimeout(DEADLINE_MS);
  const page = await context.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('dialog', (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('console', (message) => {
    // The browser itself reports a server that is away, refuses a WebSocket or is not ready; the page has no say in it.
    const isAway = /^WebSocket connection to|^Failed to load resource: net::ERR_/.test(message.text());
    const isUnready = /status of 503/.test(message.text()) && message.location().url.endsWith('/readyz');
    if (message.type() === 'error' && !isAway && !isUnready) complaints.push(message.text());
  });
  await prepare(page);
  await page.goto(`${url}${path}${hash}`);
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

/** The server has confirmed it. */
const isSent = (page, text) => said(page, text).and(page.locator('.sent')).waitFor();

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
  await isSent(ann, 'hello from ann');
  await isSent(ben, 'hello from ben');
  for (const page of [ann, ben]) {
    assert.deepEqual(await page.locator('.said p').allTextContents(), ['hello from ann', 'hello from ben']);
  }
  await ann.locator('#latency', { hasText: /^[\d.]+ ms$/ }).waitFor();
});

test('the page needs its own dialect, whatever other clients speak at /', async () => {
  const classic = await startServer(undefined, '--default-dialect', 'classic');
  try {
    const page = await open({ url: classic.url });
    await join(page, 'dialects');
    await say(page, 'hello');
    await isSent(page, 'hello');
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
  await isSent(ann, 'to the room that was left');
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

  assert.equal(await focused(), 'Room to join');
  assert.equal(await page.evaluate(() => getSelection().toString()), 'lobby', 'typing replaces what is suggested');
  await press('Shift+Tab');
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
  await isSent(page, 'typed\nin two lines');
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
  const page = await open({ viewport: { width: 320, height: 568 } });
  await join(page, 'w'.repeat(128));
  const other = await member('w'.repeat(128));
  for (const room of ['one', 'two', 'three', 'four', 'narrow']) await join(page, room);
  other.send('unread');
  await page.locator('.badge', { hasText: '1 unread' }).waitFor();
  other.close();
  await say(page, 'x'.repeat(3000));
  await isSent(page, 'x'.repeat(3000));
  await page.getByText('Use it from your own code').click();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= 320);
  // The rooms are a row that scrolls.
  const wide = await page.evaluate(() => [...document.querySelectorAll('body *:not(#rooms *)')]
    .filter((node) => node.getBoundingClientRect().right > 320).map((node) => node.outerHTML.slice(0, 80)));
  assert.deepEqual(wide, []);
});

test('the lines for one\'s own code work as they are printed', async () => {
  const page = await open();
  await join(page, 'snippet "quoted"');
  await page.getByText('Use it from your own code').click();
  const code = await page.locator('#snippet').textContent();
  assert.ok(code.includes(server.ws));
  assert.ok(!code.includes('roomId'), 'one name for one thing');
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
  await page.getByLabel('Room to join').fill('no\u0085controls');
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
    await isSent(ann, 'written while away');
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
  await isSent(page, 'slowly');

  answer = 'refuse';
  await say(page, 'again');
  await said(page, 'again').getByText('Not sent: the broker is away (broker_unavailable)').waitFor();
  answer = 'pass';
  await said(page, 'again').getByRole('button', { name: 'Retry' }).click();
  await isSent(page, 'again');
  assert.equal(await said(page, 'again').count(), 1);
});

/** A page whose connections the test can close, on a clock that the test moves. */
async function openOnClock({ mute = () => false, ...options } = {}) {
  const routes = [];
  const page = await open({
    ...options,
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
  await page.clock.runFor(5000);
  assert.equal(routes.length, 1);
  await until('a second connection', async () => { await page.clock.runFor(1000); return routes.length === 2; });
  await page.locator('#rooms [data-state=joined]').waitFor();
});

/** What is wrong as long as it is, in the page's words. */
const outage = (page, text) => page.locator('#outage', { hasText: text }).waitFor();

const noOutage = (page) => until('the page says that all is well', async () => await page.locator('#outage').textContent() === '');

test('behind a proxy that adds a path the page finds everything below it', async (t) => {
  const proxy = await startProxy('/chat/', server.port);
  t.after(proxy.stop);
  for (const path of ['/chat', '/chat/']) {
    const asked = [];
    const page = await open({
      url: proxy.url,
      path,
      prepare: (p) => p.on('websocket', (socket) => asked.push(socket.url())),
    });
    await join(page, 'below');
    await say(page, path);
    await isSent(page, path);
    assert.deepEqual(asked, [`${proxy.url.replace('http', 'ws')}/chat/fanfare`]);
    assert.ok((await page.locator('#snippet').textContent()).includes(asked[0]));
  }
});

test('a WebSocket that is refused has its likely reasons told, and so has a server that is away', async (t) => {
  const picky = await startServer(undefined, '--origins', 'https://example.com');
  t.after(() => picky.stop('SIGKILL'));
  const page = await open({ url: picky.url });
  await outage(page, `The server answers, but the WebSocket is refused: by its setting “origins” (this page is of ${picky.url})`);
  await picky.stop();
  await outage(page, `Nothing answers at 127.0.0.1:${picky.port}`);
});

test('a proxy that answers for a server that is away is not taken for it', async (t) => {
  const own = await startServer();
  const proxy = await startProxy('/', own.port);
  t.after(() => Promise.all([proxy.stop(), own.stop('SIGKILL')]));
  const page = await open({ url: proxy.url });
  await phase(page, 'Connected');
  await own.stop();
  complaints = [];
  await outage(page, /something else answers at .* with status 502/);
  // The browser reports the 502 as an error.
  complaints = complaints.filter((text) => !text.includes('status of 502'));
});

test('a broker that is away is told, and what waits for it goes on when it is back', async (t) => {
  const port = await freePort();
  const lone = await startServer(undefined, '--redis-url', `redis://127.0.0.1:${port}`);
  const proxy = await startProxy('/chat/', lone.port);
  let redis;
  t.after(() => Promise.all([proxy.stop(), lone.stop('SIGKILL'), redis?.stop()]));
  const page = await open({ url: proxy.url, path: '/chat/', hash: '#waits' });
  await outage(page, 'cut off from its broker');
  await phase(page, 'Not ready');
  await page.locator('#state', { hasText: 'waits for the broker' }).waitFor();
  await say(page, 'early');

  redis = await startRedis(port);
  await page.locator('#rooms [data-state=joined]').waitFor();
  await phase(page, 'Connected');
  await noOutage(page);
  await isSent(page, 'early');

  await redis.stop();
  await until('the server has noticed', async () => (await fetch(`${lone.url}/readyz`)).status === 503);
  await say(page, 'late');
  await said(page, 'late').getByText('Not sent: ').waitFor();
  await outage(page, 'cut off from its broker');
  await say(page, 'meanwhile');
  redis = await startRedis(port);
  await page.locator('.note', { hasText: 'The server is ready again' }).waitFor();
  await noOutage(page);
  await isSent(page, 'meanwhile');
  await said(page, 'late').getByRole('button', { name: 'Retry' }).click();
  await isSent(page, 'late');
});

test('a server that is ready and owes nothing is not asked', async () => {
  const asked = [];
  const page = await open({
    prepare: async (p) => {
      p.on('request', (request) => asked.push(new URL(request.url()).pathname));
      await p.clock.install();
      await p.addInitScript(() => {
        window.pings = window.unanswered = 0;
        const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function sendCounted(text) {
          if (JSON.parse(text).type === 'PING') {
            window.pings++;
            window.unanswered++;
            const count = ({ data }) => {
              if (JSON.parse(data).type !== 'PONG') return;
              window.unanswered--;
              this.removeEventListener('message', count);
            };
            this.addEventListener('message', count);
          }
          send.call(this, text);
        };
      });
    },
  });
  await join(page, 'quiet');
  await say(page, 'quiet');
  await isSent(page, 'quiet');
  // On a slow machine it may have asked while it owed something.
  asked.length = 0;
  // The server's time is the real one: without waiting for its PONGs the page takes it for gone, and asks why.
  for (let seconds = 0; seconds < 120; seconds += 5) {
    await page.clock.runFor(5_000);
    await until('each PING answered', () => page.evaluate(() => window.unanswered === 0));
  }
  assert.ok(await page.evaluate(() => window.pings >= 5), 'its time went on');
  assert.ok(!asked.includes('/readyz'), String(asked));
});

test('a message that the server would not take is not sent, and is not lost', async (t) => {
  const narrow = await startServer(undefined, '--limits-message-bytes-max', '2000');
  t.after(() => narrow.stop('SIGKILL'));
  const commands = [];
  let sockets = 0;
  const page = await open({
    url: narrow.url,
    prepare: (p) => p.on('websocket', (socket) => {
      sockets++;
      socket.on('framesent', ({ payload }) => commands.push(payload));
    }),
  });
  await join(page, 'narrow');
  // Characters that fit, and bytes that do not; then text that grows as JSON.
  for (const text of ['é'.repeat(1000), '"'.repeat(1000)]) {
    await say(page, text);
    await page.getByRole('alert').filter({ hasText: /^Too long to send: 2,\d+ bytes as JSON, and the server takes 2,000 at most/ }).waitFor();
    assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), text);
    await page.locator('#hint', { hasText: 'of 2,000 bytes: too long' }).waitFor();
    await page.getByLabel('Message', { exact: true }).fill('');
    assert.match(await page.locator('#hint').textContent(), /Enter sends/);
  }
  assert.equal(await page.locator('.said').count(), 0);

  // The longest that the page takes, the server takes.
  const input = page.getByLabel('Message', { exact: true });
  const most = await page.evaluate(() => {
    const text = document.getElementById('text'), hint = document.getElementById('hint');
    for (text.value = 'x'.repeat(1800); !hint.classList.contains('over'); text.oninput()) text.value += 'x';
    text.value = text.value.slice(1);
    text.oninput();
    return text.value;
  });
  await input.press('Enter');
  await isSent(page, most);
  assert.equal(sockets, 1);
  assert.ok(commands.every((text) => Buffer.byteLength(text) <= 2000));
  assert.ok(commands.some((text) => Buffer.byteLength(text) > 1980));
});

test('the latency shown is not that of the start', async () => {
  const pongs = [];
  let hold = true;
  const page = await open({
    prepare: async (p) => {
      await p.clock.install({ time: 0 });
      await p.clock.pauseAt(1000);
      await p.routeWebSocket(/\/fanfare$/, (route) => {
        const upstream = route.connectToServer();
        upstream.onMessage((text) => {
          const isPong = JSON.parse(text).type === 'PONG';
          if (isPong && hold) pongs.push(() => route.send(text)); else route.send(text);
          if (isPong) hold = false;
        });
      });
    },
  });
  const pong = await until('the first PONG', () => pongs.pop());
  await page.clock.runFor(70);
  pong();
  // Time stands still but for the test's hand, so that the others take none at all.
  await until('a latency', async () => {
    await page.clock.runFor(100);
    return await page.locator('#latency').textContent();
  });
  assert.equal(await page.locator('#latency').textContent(), '0.1 ms');
});

for (const [width, height] of [[360, 640], [740, 360]]) {
  test(`the room that was joined last is in sight at ${width} x ${height}`, async () => {
    const page = await open({ viewport: { width, height } });
    for (let n = 1; n <= 9; n++) await join(page, `room number ${n}`);
    const isInSight = (name) => roomEntry(page, name).evaluate((entry) => {
      const [inner, outer] = [entry, entry.parentElement].map((node) => node.getBoundingClientRect());
      return inner.left >= outer.left && inner.right <= outer.right && inner.top >= outer.top && inner.bottom <= outer.bottom;
    });
    assert.ok(await isInSight('room number 9'));
    await page.getByLabel('Room to join').fill('room number 1');
    await page.keyboard.press('Enter');
    assert.ok(await isInSight('room number 1'));
  });
}

test('who reads further up is told of newer messages, and not torn away', async () => {
  const page = await open();
  await join(page, 'long');
  const other = await member('long');
  for (let n = 1; n <= 40; n++) other.send(`number ${n}`);
  await said(page, 'number 40').waitFor();
  await page.locator('#log').evaluate((log) => { log.scrollTop = 0; });
  await until('the page sees the scrolling', async () => {
    other.send('one more');
    return await page.locator('#newer').isVisible();
  });
  other.send('the last');
  await said(page, 'the last').waitFor();
  assert.equal(await page.locator('#log').evaluate((log) => log.scrollTop), 0);
  const button = page.getByRole('button', { name: /^Go to \d+ new messages$/ });
  await until('a title that counts', async () => /^\(\d+\) long · Fanfare$/.test(await page.title()));
  await button.click();
  await button.waitFor({ state: 'hidden' });
  await until('the end', () => page.locator('#log').evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2));
  await until('the title', async () => await page.title() === 'long · Fanfare');
  other.close();
});

test('the title says the room and what is unread', async () => {
  const page = await open();
  assert.equal(await page.title(), 'Fanfare');
  await join(page, 'one');
  await join(page, 'two');
  assert.equal(await page.title(), 'two · Fanfare');
  const other = await member('one');
  other.send('x');
  other.send('y');
  await until('a title that counts', async () => await page.title() === '(2) two · Fanfare');
  await roomEntry(page, 'one').locator('.pick').click();
  assert.equal(await page.title(), 'one · Fanfare');
  other.close();
});

test('a reload comes back to all rooms, and to the one that was shown', async () => {
  const page = await open();
  const names = ['first', 'second', 'third "quoted"'];
  for (const name of names) await join(page, name);
  await join(page, 'left');
  await page.getByRole('button', { name: 'Leave left' }).click();
  await roomEntry(page, 'second').locator('.pick').click();
  await page.reload();
  await until('all rooms', async () => await page.locator('#rooms [data-state=joined]').count() === 3);
  assert.deepEqual(await page.locator('#rooms bdi').allTextContents(), names);
  assert.equal(await page.locator('h2').textContent(), 'second');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'text');
});

test('names are shown in full, and measured as the server measures them', async (t) => {
  const own = await startServer(undefined, '--limits-room-name-bytes-max', '90');
  t.after(() => own.stop('SIGKILL'));
  const commands = [];
  const page = await open({
    url: own.url,
    viewport: { width: 320, height: 568 },
    prepare: (p) => p.on('websocket', (socket) => socket.on('framesent', ({ payload }) => commands.push(payload))),
  });
  const longest = 'ż'.repeat(45);
  await join(page, longest);
  assert.equal(await roomEntry(page, longest).locator('.pick').getAttribute('title'), longest);
  assert.equal(await page.locator('h2').textContent(), longest);
  assert.ok(await page.locator('h2').evaluate((node) => node.scrollWidth <= node.clientWidth && node.scrollHeight <= node.clientHeight));

  const name = page.getByLabel('Room to join');
  await name.fill(`${longest}!`);
  await name.press('Enter');
  assert.equal(await name.evaluate((node) => node.validationMessage), "a room's name has at most 90 bytes, and this one has 91 in UTF-8");
  await page.evaluate((room) => { location.hash = `#${room}`; }, 'y'.repeat(70_000));
  await page.getByRole('alert').filter({ hasText: 'at most 90 bytes, and this one has 70000' }).waitFor();
  await phase(page, 'Connected');
  assert.equal(commands.filter((text) => text.includes('SUBSCRIBE')).length, 1);

  const linked = await open({ url: own.url, hash: `#${'y'.repeat(91)}` });
  await phase(linked, 'Connected');
  await linked.getByRole('alert').filter({ hasText: 'at most 90 bytes, and this one has 91' }).waitFor();
});

for (const [width, height] of [[320, 568], [360, 640], [740, 360], [360, 400], [1280, 800]]) {
  test(`everything one needs is on a screen of ${width} x ${height}`, async () => {
    const { page, routes } = await openOnClock({ viewport: { width, height } });
    for (const room of ['team updates', 'support', 'a rather long name of a room', 'news']) await join(page, room);
    const beyond = () => page.evaluate(() => ['#toggle', '#join button', '#name', '#log', '#text', '#write button', 'summary']
      .filter((name) => {
        const { left, right, top, bottom, height } = document.querySelector(name).getBoundingClientRect();
        return left < 0 || top < 0 || right > innerWidth || bottom > innerHeight || height < 20;
      }));
    assert.deepEqual(await beyond(), []);
    assert.equal(await page.evaluate(() => document.documentElement.scrollHeight), height);
    await page.clock.pauseAt(Date.now() + 3_600_000);
    await routes.at(-1).close({ code: 4008, reason: 'too slow' });
    await phase(page, /Reconnecting in \d+ s/);
    assert.deepEqual(await beyond(), []);
  });
}

test('in forced colours the dots, the shown room and the messages can be told', async () => {
  const page = await open({ forcedColors: 'active' });
  await join(page, 'one');
  await join(page, 'two');
  const dots = () => page.evaluate(() => ['#phase', '#rooms li:first-child .pick', '#rooms li:last-child .pick'].map((name) => {
    const { backgroundColor, borderTopColor } = getComputedStyle(document.querySelector(name), '::before');
    return [backgroundColor, borderTopColor];
  }));
  const canvas = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const shown = await page.locator('#rooms li:last-child').evaluate((node) => getComputedStyle(node).backgroundColor);
  assert.notEqual(shown, canvas);
  for (const [at, [fill, line]] of (await dots()).entries()) {
    const around = at === 2 ? shown : canvas;
    assert.ok(fill !== around && !/^rgba.*, 0\)$/.test(fill) && line !== around, `${fill} ${line} on ${around}`);
  }
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await phase(page, 'Closed');
  for (const [fill] of (await dots()).slice(1)) assert.match(fill, /^rgba.*, 0\)$/, 'an empty ring');
});
