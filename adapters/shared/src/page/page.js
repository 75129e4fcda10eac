// Per room: a busy one may not grow the page without end, and nobody scrolls back further.
const MESSAGES_MAX = 500;
// Full jitter (a random part of the whole wait): the clients of a restarted server do not return in step.
const BACKOFF_MS_MIN = 500, BACKOFF_MS_MAX = 30000;
// Only a connection that lasted starts the backoff over: a server that accepts and closes is not hammered.
const STABLE_MS = 5000;
// A server that has not answered a connection or a PING by then is taken for gone.
const ANSWER_MS_MAX = 10000, PING_INTERVAL_MS = 20000;
// How long a sent message waits for its copy from the room, which tells its place in the order.
const ECHO_MS_MAX = 10000;
// The first round trip pays for the start of the page, so that the best of a few is the network's.
const TRIPS = 3, FIRST_PINGS_MS = 1000;
// What is not answered by then may wait for the server's broker: the page asks whether it is ready, less and less often.
const PATIENCE_MS = 1000, PATIENCE_MS_MAX = 5000;

const $ = (id) => document.getElementById(id);
const meta = (name) => Number(document.querySelector(`meta[name=${name}]`).content);
// A text beyond the first would cost the connection. Both are the server's own.
const MESSAGE_BYTES_MAX = meta('message-bytes-max'), ROOM_NAME_BYTES_MAX = meta('room-name-bytes-max');
const HINT = 'Enter sends, Shift + Enter starts a new line';

// The page is what the server has at its root, so everything else of it lies below, also behind a proxy that adds a path.
const base = new URL(location);
base.search = base.hash = '';
base.pathname = base.pathname.replace(/\/*$/, '/');
const url = new URL('fanfare', base);
url.protocol = url.protocol.replace('http', 'ws');
// Of this tab, so that two tabs can be in different rooms; the hash is the room that is shown, to be shared as a link.
const STORED = `fanfare rooms ${base.pathname}`;

const toggles = { Connecting: 'Disconnect', Connected: 'Disconnect', Reconnecting: 'Connect now', Closed: 'Connect' };
const now = () => performance.now();

const rooms = new Map(); // by name
const sent = new Map();  // by id: messages that wait for their ACK or ERROR
let socket, phase, timer, pingTimer, pinged, pingedAt, openedAt, retryAt, watchTimer, titleTimer;
let attempt = 0, nextId = 1, current = null, log = $('log'), atEnd = true, frame = 0;
let trips = [], ready = true, looking = null, patience = PATIENCE_MS;

// ---- connection

function connect() {
  clearTimeout(timer);
  openedAt = Infinity;
  const mine = socket = new WebSocket(url);
  mine.onopen = () => mine === socket && opened();
  mine.onmessage = (e) => mine === socket && receive(JSON.parse(e.data));
  mine.onclose = (e) => lost(mine, e.code, e.reason);
  timer = setTimeout(() => lost(mine, 1006), ANSWER_MS_MAX);
  setPhase('Connecting');
}

function opened() {
  clearTimeout(timer);
  openedAt = now();
  setPhase('Connected');
  setOutage('');
  rooms.forEach(subscribe);
  ping();
}

function lost(mine, code, reason) {
  if (mine !== socket) return;
  const why = `${reason || (code === 1006 ? 'connection lost' : 'no reason given')} (${code})`;
  const neverOpened = openedAt === Infinity;
  if (now() - openedAt > STABLE_MS) attempt = 0;
  hangUp(why);
  if (neverOpened) diagnose(); else setOutage('');
  if (code >= 4500 && code <= 4999) return say(`The server closed the connection: ${why}`);
  retryAt = now() + Math.random() * Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** attempt++);
  setPhase('Reconnecting');
  countDown();
}

function hangUp(why) {
  clearTimeout(timer);
  clearTimeout(pingTimer);
  clearTimeout(watchTimer);
  watchTimer = 0;
  patience = PATIENCE_MS;
  $('latency').textContent = '';
  trips = [];
  ready = true;
  looking = null;
  socket.close();
  socket = null;
  sent.forEach((message) => setMessage(message, 'failed', `Not confirmed: ${why}; it may have arrived`));
  sent.clear();
  rooms.forEach((room) => {
    room.missed ||= room.state === 'joined';
    setState(room, 'offline');
  });
  setPhase('Closed');
}

function countDown() {
  const left = retryAt - now();
  if (left <= 0) return connect();
  $('countdown').textContent = ` in ${Math.ceil(left / 1000)} s`;
  timer = setTimeout(countDown, left % 1000 || 1000);
}

function setPhase(next) {
  phase = next;
  const waits = phase === 'Connected' && !ready;
  document.body.dataset.phase = waits ? 'Waiting' : phase;
  $('phase').firstChild.textContent = waits ? 'Not ready' : phase;
  $('countdown').textContent = '';
  $('toggle').textContent = toggles[next];
}

/** What a request below the page gives: its status, 0 without an answer, and the server's own short text. */
async function ask(path) {
  try {
    const response = await fetch(new URL(path, base), { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    const isOurs = response.headers.get('content-type')?.startsWith('text/plain');
    return { status: response.status, text: isOurs ? (await response.text()).trim().slice(0, 200) : '' };
  } catch {
    return { status: 0, text: '' };
  }
}

/** A browser tells no script why a WebSocket did not open: whether plain requests are answered says the most. */
async function diagnose() {
  const { status, text } = await ask('healthz');
  if (openedAt !== Infinity || phase === 'Closed') return;
  if (text === 'ok') {
    setOutage(`The server answers, but the WebSocket is refused: by its setting “origins” (this page is of ${location.origin}), because all places are taken, or by a proxy on the way.`);
  } else if (status === 429) {
    setOutage('The server refuses this address: it has too many connections, or too many new ones.');
  } else {
    setOutage(status ? `The server is not there: something else answers at ${base.host}${base.pathname} with status ${status}.`
      : `Nothing answers at ${base.host}. The page goes on trying.`);
  }
}

/** As long as the server is not ready, or something waits for its answer, looks why, less and less often. */
function watch() {
  watchTimer ||= setTimeout(() => {
    watchTimer = 0;
    if (!ready || sent.size || [...rooms.values()].some(({ state }) => state === 'joining')) look();
    else patience = PATIENCE_MS;
  }, patience);
}

async function look() {
  if (looking === socket) return;
  const mine = looking = socket;
  const { status, text } = await ask('readyz');
  if (mine !== socket) return;
  looking = null;
  // A proxy has its own 503, which is no text of ours.
  setReady(status !== 503 || !text, text);
  patience = Math.min(patience * 2, PATIENCE_MS_MAX);
  watch();
}

function setReady(next, reason) {
  const changed = ready !== next;
  ready = next;
  setOutage(ready ? '' : `The server is cut off from its broker. What you join and send waits until it is back.${reason && ` (${reason})`}`);
  if (!changed) return;
  setPhase(phase);
  rooms.forEach((room) => {
    setState(room, room.state);
    if (room.state !== 'joined') return;
    if (!ready) return void (room.missed = true);
    catchUp(room, 'The server is ready again. What was sent in the meantime may be missing.');
    flush(room);
  });
}

/** The PONG is the latency; none is a connection that died in silence. */
function ping() {
  if (phase !== 'Connected' || document.hidden) return;
  const mine = socket;
  clearTimeout(pingTimer);
  pingTimer = setTimeout(() => lost(mine, 4000, 'no sign of life'), ANSWER_MS_MAX);
  pingedAt = now();
  pinged = command({ type: 'PING' });
}

function command(fields) {
  socket.send(JSON.stringify({ ...fields, id: nextId }));
  return nextId++;
}

function receive(event) {
  const { type, id } = event, room = rooms.get(event.room), message = sent.get(id);
  if (type === 'MESSAGE' && room) hear(room, event.message);
  if (type === 'SUBSCRIBED' && room?.asked === id) joined(room);
  if (type === 'UNSUBSCRIBED' && room && id === undefined) drop(room, `The server took you out of “${room.name}” (${event.code})`);
  if (type === 'PONG' && id === pinged) {
    trips = [...trips, now() - pingedAt].slice(-TRIPS);
    if (trips.length > 1) showLatency(Math.min(...trips));
    clearTimeout(pingTimer);
    pingTimer = setTimeout(ping, trips.length < TRIPS ? FIRST_PINGS_MS : PING_INTERVAL_MS);
  }
  if (type === 'ACK' && message) setMessage(message, 'sent');
  sent.delete(id);
  if (type === 'ERROR') refused(id, event.code, `${event.reason} (${event.code})`, message);
}

function showLatency(ms) {
  $('latency').textContent = `${ms < 9.95 ? Math.max(ms, .1).toFixed(1) : Math.round(ms)} ms`;
}

function refused(id, code, why, message) {
  if (code === 'broker_unavailable' || code === 'unconfirmed') look();
  if (message) return setMessage(message, 'failed', `${code === 'unconfirmed' ? 'Not confirmed' : 'Not sent'}: ${why}`);
  const room = [...rooms.values()].find(({ asked }) => asked && asked === id);
  if (!room) return say(why);
  drop(room, `Could not join “${room.name}”: ${why}`);
  $('name').value ||= room.name;
  if (!current) $('name').focus();
}

/** What has just happened, until the person does the next thing. */
function say(text) {
  $('notice').textContent = text;
}

/** What is wrong as long as it is. The same again is no news to a screen reader. */
function setOutage(text) {
  if ($('outage').textContent !== text) $('outage').textContent = text;
}

// ---- sizes

const bytes = (text) => new TextEncoder().encode(text).length;

/** At the most, since an id becomes longer while a message waits. */
const frameBytes = (fields) => bytes(JSON.stringify({ ...fields, id: Number.MAX_SAFE_INTEGER }));

const sendCommand = ({ room, value }) => ({ type: 'SEND_MESSAGE', room: room.name, message: value });

/** What is too long about a room's name, or nothing. */
function nameFault(name) {
  const size = bytes(name);
  if (size > ROOM_NAME_BYTES_MAX) return `a room's name has at most ${ROOM_NAME_BYTES_MAX} bytes, and this one has ${size} in UTF-8`;
  return frameBytes({ type: 'SUBSCRIBE', room: name }) > MESSAGE_BYTES_MAX ? 'the name takes more bytes as JSON than the server reads' : '';
}

/** How much of what the server takes is written; nothing as long as it is far from all. */
function showSize() {
  const size = current ? frameBytes(sendCommand({ room: current, value: $('text').value })) : 0;
  const counts = size > MESSAGE_BYTES_MAX * .8, over = size > MESSAGE_BYTES_MAX;
  $('hint').className = over ? 'counts over' : counts ? 'counts' : '';
  $('hint').textContent = counts ? `${size.toLocaleString()} of ${MESSAGE_BYTES_MAX.toLocaleString()} bytes${over ? ': too long to send' : ''}` : HINT;
  $('text').setAttribute('aria-invalid', over);
}

// ---- rooms

function join(name) {
  const room = enter(name);
  if (room) select(room);
}

function enter(name) {
  let room = rooms.get(name);
  if (!room) {
    const fault = nameFault(name);
    if (fault) return void say(`Could not join “${name.slice(0, 40)}…”: ${fault}`);
    room = { name, messages: [], fresh: [], unread: 0, node: element('li'), pick: element('button', 'pick'), badge: element('span', 'badge') };
    const out = element('button', '', '×');
    room.pick.append(element('bdi', '', name), room.badge);
    room.pick.title = name;
    room.pick.onclick = () => select(room);
    out.ariaLabel = out.title = `Leave ${name}`;
    out.onclick = () => leave(room);
    room.node.append(room.pick, out);
    $('rooms').append(room.node);
    rooms.set(name, room);
    store();
    setState(room, 'offline');
    if (phase === 'Connected') subscribe(room);
  }
  return room;
}

function subscribe(room) {
  room.asked = command({ type: 'SUBSCRIBE', room: room.name });
  setState(room, 'joining');
  watch();
}

function joined(room) {
  catchUp(room, 'Connected again. What was sent in the meantime is not shown.');
  setState(room, 'joined');
  // It was confirmed, so the broker is back.
  if (ready) flush(room); else look();
}

function catchUp(room, note) {
  if (room.missed) add({ room, note });
  room.missed = false;
}

function leave(room) {
  if (phase === 'Connected') command({ type: 'UNSUBSCRIBE', room: room.name });
  drop(room, '');
  (current?.pick || $('name')).focus();
}

function drop(room, why) {
  say(why);
  rooms.delete(room.name);
  store();
  room.node.remove();
  showTitle();
  if (room === current) select([...rooms.values()].pop());
}

/** A browser that keeps nothing for this page refuses: then a reload has the room of the hash. */
function store() {
  try { sessionStorage.setItem(STORED, JSON.stringify([...rooms.keys()])); } catch { /* as said */ }
}

function stored() {
  try {
    const names = JSON.parse(sessionStorage.getItem(STORED));
    return Array.isArray(names) ? names.filter((name) => name && typeof name === 'string') : [];
  } catch {
    return [];
  }
}

function setState(room, state) {
  room.node.dataset.state = room.state = state;
  if (room === current) $('state').textContent = state === 'joining' && !ready ? 'waits for the broker' : state;
}

function setUnread(room, count) {
  room.unread = count;
  room.badge.textContent = count || '';
  if (count) room.badge.append(element('span', 'sr', ' unread'));
  if (room === current) showNewer();
  // A hidden page draws no frames, and a busy room needs no title for each message.
  titleTimer ||= setTimeout(showTitle, 100);
}

function showNewer() {
  $('newer').hidden = atEnd || !current?.unread;
  $('newer').textContent = `${current?.unread} new ↓`;
  $('newer').ariaLabel = `Go to ${current?.unread} new messages`;
}

function showTitle() {
  titleTimer = 0;
  const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ''}${current ? `${current.name} · ` : ''}Fanfare`;
}

function select(room) {
  current?.pick.removeAttribute('aria-current');
  current = room;
  // A new element, so that a screen reader does not read the whole room out as news.
  resized.disconnect();
  log.replaceWith(log = element('div'));
  log.id = 'log';
  $('blank').hidden = !!room;
  $('top').hidden = $('write').hidden = log.hidden = !room;
  history.replaceState(null, '', '#' + encodeURIComponent(room?.name ?? ''));
  showSnippet();
  showSize();
  showNewer();
  if (!room) return showTitle();
  log.tabIndex = 0;
  log.role = 'log';
  log.ariaLabel = `Messages in ${room.name}`;
  log.onscroll = () => {
    atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 30;
    seen();
  };
  log.append(...room.messages.map(messageNode));
  room.fresh = [];
  room.pick.setAttribute('aria-current', 'true');
  $('top').querySelector('bdi').textContent = room.name;
  setState(room, room.state);
  setUnread(room, 0);
  showTitle();
  room.node.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  toEnd();
  resized.observe(log);
}

// ---- messages

/** Sends now, or once the server is ready and the room is joined: a member that sends sees its own message come back. */
function send(message) {
  setMessage(message, 'waiting');
  if (ready && message.room.state === 'joined') transmit(message);
}

function flush(room) {
  room.messages.filter(({ state }) => state === 'waiting').forEach(transmit);
}

function transmit(message) {
  sent.set(command(sendCommand(message)), message);
  watch();
  message.echoUntil = now() + ECHO_MS_MAX;
  setMessage(message, 'sending');
}

/** A message from the room. One that is ours takes the place that the room gave it. */
function hear(room, value) {
  const own = room.messages.find((m) => m.value === value && m.echoUntil > now());
  if (!own) return add({ room, value });
  own.echoUntil = 0;
  toLast(own);
}

function toLast(message) {
  const { messages } = message.room, at = messages.indexOf(message);
  if (at === messages.length - 1) return;
  if (at >= 0) messages.splice(at, 1);
  add(message);
}

/** Shows a message with the next frame: a flood of them costs one layout per frame. */
function add(message) {
  const { room } = message;
  for (const list of [room.messages, room.fresh]) {
    list.push(message);
    if (list.length > MESSAGES_MAX) list.shift();
  }
  message.time ||= new Date().toLocaleTimeString([], { timeStyle: 'short' });
  const isSeen = room === current && atEnd && !document.hidden;
  if (!isSeen && !message.note && !message.own) setUnread(room, room.unread + 1);
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!current) return;
    log.append(...current.fresh.splice(0).map(messageNode));
    while (log.childElementCount > MESSAGES_MAX) log.firstChild.remove();
    if (atEnd) toEnd();
  });
}

function messageNode(message) {
  if (message.node) return message.node;
  const { note, value } = message;
  if (note) return message.node = element('div', 'note', note);
  const body = typeof value === 'string' ? element('p', '', value) : element('p', 'json', JSON.stringify(value));
  body.dir = 'auto';
  message.node = element('div');
  message.node.append(body, element('div', 'meta'));
  setMessage(message, message.state, message.reason);
  return message.node;
}

function setMessage(message, state, reason) {
  const { node, own, time } = message;
  message.state = state;
  message.reason = reason;
  if (state === 'failed') message.echoUntil = 0;
  if (!node) return;
  node.className = `said ${own ? 'own' : ''} ${state}`;
  node.lastChild.textContent = state === 'failed' ? reason : own ? `${time} · ${state}` : time;
  if (state !== 'failed') return;
  const retry = element('button', 'small', 'Retry');
  node.lastChild.append(retry);
  if (atEnd) toEnd();
  retry.onclick = () => {
    $('text').focus();
    toLast(message);
    send(message);
  };
}

function toEnd() {
  log.scrollTop = log.scrollHeight;
  atEnd = true;
  seen();
}

/** The end of the messages is on the screen, and somebody looks at it. */
function seen() {
  if (atEnd && current?.unread && !document.hidden) setUnread(current, 0);
}

function element(tag, className = '', text = '') {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

// ---- for one's own code

function showSnippet() {
  const room = JSON.stringify(current?.name ?? 'lobby');
  $('snippet').textContent = `const socket = new WebSocket("${url}");
const send = (command) => socket.send(JSON.stringify(command));

socket.onopen = () => send({ type: "SUBSCRIBE", room: ${room} });
socket.onmessage = ({ data }) => {
  const event = JSON.parse(data);
  console.log(event); // SUBSCRIBED, then MESSAGE and ACK
  if (event.type === "SUBSCRIBED") {
    send({ type: "SEND_MESSAGE", room: ${room}, message: "Hello", id: 1 });
  }
};`;
}

// ---- wiring

const resized = new ResizeObserver(() => atEnd && toEnd());
$('logo').src = document.querySelector('link').href;
$('toggle').onclick = () => {
  attempt = 0;
  say('');
  setOutage('');
  if (socket) hangUp('disconnected'); else connect();
};
$('name').oninput = () => $('name').setCustomValidity(nameFault($('name').value.trim()));
$('join').onsubmit = (e) => {
  e.preventDefault();
  const name = $('name').value.trim();
  if (!name) return;
  say('');
  $('name').value = '';
  join(name);
  $('text').focus();
};
$('write').onsubmit = (e) => {
  e.preventDefault();
  const message = { room: current, value: $('text').value, own: true };
  $('text').focus();
  if (!message.value.trim()) return;
  const size = frameBytes(sendCommand(message));
  if (size > MESSAGE_BYTES_MAX) return say(`Too long to send: ${size.toLocaleString()} bytes as JSON, and the server takes ${MESSAGE_BYTES_MAX.toLocaleString()} at most.`);
  say('');
  $('text').value = '';
  showSize();
  atEnd = true;
  add(message);
  send(message);
};
$('newer').onclick = () => {
  toEnd();
  $('text').focus();
};
$('text').oninput = showSize;
$('text').onkeydown = (e) => {
  if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
  e.preventDefault();
  $('write').requestSubmit();
};
// Browsers give the clipboard to secure origins only; elsewhere the text is selected for the person to copy.
$('copy').onclick = async () => {
  getSelection().selectAllChildren($('snippet'));
  await navigator.clipboard?.writeText($('snippet').textContent).then(() => { $('copy').textContent = 'Copied'; }, () => {});
};
onhashchange = () => {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* written by hand: taken as it is */ }
  if (name) join(name);
};
ononline = () => phase === 'Reconnecting' && connect();
document.onvisibilitychange = () => {
  seen();
  ping();
};

stored().forEach(enter);
onhashchange();
if (!current) select([...rooms.values()].pop());
(current ? $('text') : $('name')).focus();
if (!current) $('name').select();
connect();
