/* The JavaScript client's connections, by the WebSocket of the Node that runs this, to a service on this machine. */

import assert from "node:assert/strict";
import {test} from "node:test";
import {CannotConnect, Offline, Player} from "../../clients/player.mjs";
import {accept, acceptAndSay, hang, refuse, reset, Service} from "./websocket_service.mjs";

const INTERVAL_SECONDS = 0.5;
const PATIENCE = {timeout: 60_000};

/* The client's own timeout for an answer is longer than a test's patience, so nothing is saved by it. */
const QUICK = {retry: 0.01, longestRetry: 0.01, answer: 300};

const later = milliseconds => new Promise(wake => setTimeout(wake, milliseconds));

async function until(condition) {
  while (!condition()) await later(5);
}

/* What a player tells its observer, with the time. */
function diary() {
  const entries = [];
  const observe = (event, about) => entries.push({event, about, at: performance.now() / 1000});
  const times = event => entries.filter(entry => entry.event === event).map(({at}) => at);
  return {observe, entries, times};
}

function assertApart(times) {
  for (let n = 1; n < times.length; n++) assert.ok(times[n] - times[n - 1] >= INTERVAL_SECONDS, `${times}`);
}

const refusals = {
  "400": refuse(400), "401": refuse(401), "429": refuse(429), "502": refuse(502), "a reset": reset,
};

for (const [name, refusal] of Object.entries(refusals)) {
  test(`a handshake answered by ${name} is one attempt, and the next follows`, PATIENCE, async () => {
    const service = await new Service(refusal, refusal).listen();
    const {observe, times} = diary();
    const player = new Player(service.url, {playerId: "1", timing: QUICK, observe});

    await player.connect();

    assert.equal(service.handshakes.length, 3);
    assert.equal(times("lost").length, 2);
    assertApart(times("connecting"));
    player.close();
    await service.stop();
  });
}

test("a player whose service was down is back soon after its service", PATIENCE, async () => {
  const service = await new Service().listen();
  const {port, url} = service;
  await service.stop();
  const {observe, times} = diary();
  const player = new Player(url, {timing: QUICK, observe});
  const connecting = player.connect();
  await until(() => times("lost").length >= 3);

  const back = await new Service().listen(port);
  await connecting;

  assertApart(times("connecting"));
  player.close();
  await back.stop();
});

test("a connection that is reset is replaced", PATIENCE, async () => {
  const service = await new Service((...handshake) => {
    accept(...handshake);
    setTimeout(() => reset(...handshake), 50);
  }).listen();
  const {observe, times} = diary();
  const player = new Player(service.url, {timing: QUICK, observe});
  await player.connect();

  await until(() => service.handshakes.length === 2);
  await player.ask({action: "ping"});

  assert.equal(times("lost").length, 1);
  player.close();
  await service.stop();
});

test("a player can be closed during its handshake", PATIENCE, async () => {
  const service = await new Service(hang).listen();
  const player = new Player(service.url, {timing: QUICK});
  const connecting = player.connect();
  await until(() => service.handshakes.length === 1);

  player.close();

  await assert.rejects(connecting, Offline);
  await service.stop();
  await later(50);  // An error that nobody listens to would end this process now.
});

test("a player can be closed while it waits for its next attempt", PATIENCE, async () => {
  const service = await new Service(refuse(502)).listen();
  const {observe, times} = diary();
  const player = new Player(service.url, {timing: {retry: 3000, longestRetry: 3000}, observe});
  const connecting = player.connect();
  await until(() => times("waiting").length === 1);

  player.close();

  await assert.rejects(connecting, Offline);
  await service.stop();
});

test("connect() after close() begins its attempt at once", PATIENCE, async () => {
  const service = await new Service(refuse(502)).listen();
  const {observe, times} = diary();
  const player = new Player(service.url, {timing: {retry: 3000, longestRetry: 3000}, observe});
  player.connect().catch(() => {});
  await until(() => times("waiting").length === 1);
  player.close();

  const connecting = player.connect();

  assert.equal(times("connecting").length, 2);
  await connecting;
  player.close();
  await service.stop();
});

test("planned attempts keep their distance too", PATIENCE, async () => {
  const service = await new Service().listen();
  const {observe, times} = diary();
  const player = new Player(service.url, {timing: {...QUICK, lifetime: 0.001}, observe});
  player.connect().catch(() => {});

  await until(() => times("connecting").length === 4);

  assertApart(times("connecting"));
  player.close();
  await service.stop();
});

test("a token function is asked for every attempt", PATIENCE, async () => {
  const service = await new Service(refuse(401), refuse(401)).listen();
  let asked = 0;
  const player = new Player(service.url, {token: async () => `t${++asked}`, timing: QUICK});

  await player.connect();

  const offered = service.handshakes.map(({headers}) => headers["sec-websocket-protocol"].replaceAll(" ", ""));
  assert.deepEqual(offered, ["player,bearer.t1", "player,bearer.t2", "player,bearer.t3"]);
  player.close();
  await service.stop();
});

test("a token function that returned an impossible token is asked again", PATIENCE, async () => {
  const service = await new Service().listen();
  const tokens = ["not a token", 5, "\ud800", "t"];
  const {observe, entries, times} = diary();
  const player = new Player(service.url, {token: () => tokens.shift(), timing: QUICK, observe});

  await player.connect();

  assert.equal(service.handshakes.length, 1);
  assertApart(times("connecting"));
  assert.doesNotMatch(JSON.stringify(entries), /not a token/);
  player.close();
  await service.stop();
});

const malformed = [
  "no JSON", "", "[]", "null", "5", '"message"',
  '{"type": "message", "srcPlayerId": "2", "message": "hello"}',
  '{"type": "message", "messageId": 5, "srcPlayerId": "2", "message": "hello"}',
  '{"type": "message", "messageId": "", "srcPlayerId": "2", "message": "hello"}',
  '{"type": "message", "messageId": "0 1", "srcPlayerId": "2", "message": "hello"}',
  '{"type": "message", "messageId": "01b", "srcPlayerId": "2"}',
  '{"type": "message", "messageId": "01b", "message": "hello"}',
  '{"type": "system", "event": "synced"}', '{"type": "system", "messageId": "01b"}',
  '{"type": "system", "event": "connected", "messageId": null}',
  '{"type": "error", "detail": ""}', '{"type": "ack", "ackId": 1}', '{"type": 5}', '{"type": "pong", "ackId": [1]}',
  '{"type": "error", "code": "rate_limited", "detail": "", "retryAfterMs": "soon"}',
  '{"type": "error", "code": "rate_limited", "detail": "", "retryAfterMs": -1}',
  '{"type": "error", "code": "rate_limited", "detail": "", "retryAfterMs": 1e999}',
];

for (const text of malformed) {
  test(`a connection that brings ${text || "an empty frame"} is replaced`, PATIENCE, async () => {
    const service = await new Service(acceptAndSay(text)).listen();
    const player = new Player(service.url, {timing: QUICK});
    player.connect().catch(() => {});

    await until(() => service.handshakes.length === 2);

    assert.equal((await player.ask({action: "ping"})).type, "pong");
    assert.equal(new URL(service.handshakes[1].url, service.url).searchParams.get("after"), "01a");
    player.close();
    await service.stop();
  });
}

const hopeless = {
  "a URL that isn't a WebSocket's": ["http://127.0.0.1:1/dev/", {}],
  "a URL with a fragment": ["ws://127.0.0.1:1/dev/#here", {}],
  "garbage for a URL": ["garbage", {}],
  "no URL": [undefined, {}],
  "a token with a space": ["ws://127.0.0.1:1/dev/", {token: "not a token"}],
};

for (const [name, [url, options]] of Object.entries(hopeless)) {
  test(`${name} rejects connects, sends and iterations at once`, PATIENCE, async () => {
    const {observe, entries, times} = diary();
    const player = new Player(url, {...options, observe});

    const waiting = [player.connect(), player.send("2", "hello"), player[Symbol.asyncIterator]().next()];

    for (const promise of waiting) await assert.rejects(promise, CannotConnect);
    await assert.rejects(player.send("2", "too late"), CannotConnect);
    await assert.rejects(player.connect(), CannotConnect);
    assert.deepEqual(times("waiting"), []);
    assert.doesNotMatch(JSON.stringify(entries), /not a token/);
  });
}

test("a player where there is no WebSocket is told what it needs", PATIENCE, async t => {
  const {WebSocket} = globalThis;
  delete globalThis.WebSocket;
  t.after(() => { globalThis.WebSocket = WebSocket; });
  const player = new Player("ws://127.0.0.1:1/dev/", {token: () => new Promise(() => {})});

  const waiting = [player.connect(), player.send("2", "hello"), player[Symbol.asyncIterator]().next()];

  for (const promise of waiting) await assert.rejects(promise, /Node 22.*--experimental-websocket.*ws/);
});

test("a WebSocket that its surroundings forbid is told", PATIENCE, async t => {
  const {WebSocket} = globalThis;
  globalThis.WebSocket = function () { throw new DOMException("secret", "SecurityError"); };
  t.after(() => { globalThis.WebSocket = WebSocket; });

  const player = new Player("ws://127.0.0.1:1/dev/", {token: () => "t"});

  await assert.rejects(player.connect(), error => {
    assert.ok(error instanceof CannotConnect);
    assert.match(error.message, /SecurityError.*wss/);
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
});

for (const seconds of [Infinity, 30 * 24 * 3600, Number.MAX_VALUE]) {
  test(`timing of ${seconds} seconds is as long as possible`, PATIENCE, async () => {
    const service = await new Service().listen();
    const timing = {ping: seconds, answer: seconds, lifetime: seconds, retry: seconds, longestRetry: seconds};
    const player = new Player(service.url, {timing});
    await player.connect();

    for (let n = 0; n < 20; n++) {
      await player.ask({action: "ping"});
      await later(5);
    }

    assert.equal(service.handshakes.length, 1);
    assert.deepEqual(service.heard, Array.from({length: 20}, (_, n) => n + 1));
    player.close();
    await service.stop();
  });
}

for (const text of ["{}", '{"message": "Internal server error"}', '{"type": "toString"}', '{"type": "new", "a": 1}']) {
  test(`a connection that brings ${text} is kept`, PATIENCE, async () => {
    const service = await new Service(acceptAndSay(text)).listen();
    const player = new Player(service.url, {timing: QUICK});
    await player.connect();

    await player.ask({action: "ping"});
    await player.ask({action: "ping"});

    assert.equal(service.handshakes.length, 1);
    player.close();
    await service.stop();
  });
}
