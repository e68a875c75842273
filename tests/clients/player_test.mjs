/* The JavaScript client against a socket that the test plays. */

import assert from "node:assert/strict";
import {test} from "node:test";
import {Offline, Player, Refused, UNREAD_MESSAGES} from "../../clients/player.mjs";
import {ack, connected, message, nextSocket, online, Socket, turn} from "./played_socket.mjs";

const rateLimited = {type: "error", code: "rate_limited", detail: "", retryable: true, ackId: 1};

test("two iterations share the messages", async () => {
  const {player, socket} = await online();
  const read = [];
  const reading = [1, 2].map(async () => {
    for await (const {message} of player) read.push(message);
  });

  await turn();
  for (const text of ["one", "two"]) {
    socket.receives(message(text));
    await turn();
  }
  player.close();
  await Promise.all(reading);

  assert.deepEqual(read.sort(), ["one", "two"]);
});

test("what watches cannot disturb", async t => {
  t.mock.method(console, "error", () => {});
  const {player, socket} = await online({observe: () => { throw new Error("no"); }});

  socket.receives(message("one"));

  assert.equal((await player[Symbol.asyncIterator]().next()).value.message, "one");
  player.close();
});

test("to connect again right after closing waits for the new connection", async () => {
  const {player} = await online();
  player.close();
  let isBack = false;
  player.connect().then(() => { isBack = true; });
  await turn();
  assert.equal(isBack, false);

  Socket.made.at(-1).onopen();
  Socket.made.at(-1).receives(connected);
  await turn();

  assert.equal(isBack, true);
  player.close();
});

test("a token that cannot be had is asked for again, whatever it is refused with", async () => {
  const before = Socket.made.length;
  let tries = 0;
  const token = () => (++tries === 1 ? Promise.reject() : "t");
  const player = new Player("ws://127.0.0.1:1/dev/", {token, timing: {retry: 0.01}});
  const connecting = player.connect();
  while (Socket.made.length === before) await new Promise(again => setTimeout(again, 5));

  Socket.made.at(-1).onopen();
  Socket.made.at(-1).receives(connected);
  await connecting;

  assert.equal(tries, 2);
  player.close();
});

test("what is longer than a frame is refused, and the next one is sent", async () => {
  const {player, socket} = await online();

  await assert.rejects(player.send("2", "x".repeat(33_000)), Refused);
  const sending = player.send("2", "short");
  await turn();
  socket.receives({type: "ack", ackId: socket.sent.at(-1).ackId, messageId: "01c"});

  assert.equal((await sending).messageId, "01c");
  player.close();
});

test("what cannot be written is rejected and ends nothing", async () => {
  const {player, socket} = await online({timing: {answer: 0.05}});

  await assert.rejects(player.ask({action: "ping", number: 1n}), TypeError);
  await new Promise(later => setTimeout(later, 100));

  assert.notEqual(socket.onmessage, null);
  player.close();
});

test("whoever waits when the player is closed is told so", async () => {
  const told = [];
  const {player} = await online({observe: (event, about) => told.push([event, about])});
  const sending = player.send("2", "hello");
  await turn();

  player.close();

  await assert.rejects(sending, Offline);
  await turn();
  assert.deepEqual(told.at(-1), ["lost", "closed"]);
});

for (const nothing of ["", null, undefined]) {
  test(`options of ${JSON.stringify(nothing)} are the same as not given`, async () => {
    const {player, socket} = await online({
      playerId: nothing, token: nothing, after: nothing, timing: nothing, observe: nothing,
    });

    assert.deepEqual(socket.query, {});
    assert.deepEqual(socket.protocols, []);
    player.close();
  });
}

test("a token function that returns nothing connects without a token", async () => {
  const {player, socket} = await online({token: () => ""});

  assert.deepEqual(socket.protocols, []);
  player.close();
});

test("the options' values are in the handshake", async () => {
  const {player, socket} = await online({playerId: "1", token: "t", after: "01"});

  assert.deepEqual(socket.query, {playerId: "1", after: "01"});
  assert.deepEqual(socket.protocols, ["player", "bearer.t"]);
  player.close();
});

const unusable = [
  [{after: 0}, TypeError, /after must be a string/],
  [{after: {}}, TypeError, /after must be a string/],
  [{after: "\ud800"}, TypeError, /after must not have a lone surrogate/],
  [{playerId: 1.5}, TypeError, /playerId must be a string/],
  [{playerId: {}}, TypeError, /playerId must be a string/],
  [{playerId: "\ud800"}, TypeError, /playerId must not have a lone surrogate/],
  [{token: Promise.resolve("t")}, TypeError, /token must be a string or a function/],
  [{observe: "loudly"}, TypeError, /observe must be a function/],
  [{player_id: "1"}, TypeError, /unknown key player_id in options.*playerId/],
  ["1", TypeError, /options must be an object.*playerId/],
  [{timing: 5}, TypeError, /timing.* must be an object.*ping/],
  [{timing: [5]}, TypeError, /timing.* must be an object.*ping/],
  [{timing: {pings: 5}}, TypeError, /unknown key pings in timing.*ping/],
  [{timing: {toString: 5}}, TypeError, /unknown key toString in timing.*ping/],
  ...["ping", "answer", "lifetime", "retry", "longestRetry", "offline"].flatMap(name => [
    ...["5", null, 5n, [5], true].map(value => [{timing: {[name]: value}}, TypeError, RegExp(`${name} .*number`)]),
    ...[0, -1, NaN, -Infinity].map(value => [{timing: {[name]: value}}, RangeError, RegExp(`${name} .*0 seconds`)]),
  ]),
];

test("a playerId can be a whole number, also 0", async () => {
  const {player, socket} = await online({playerId: 0});

  assert.deepEqual(socket.query, {playerId: "0"});
  player.close();
});

test("options that can't be used are refused by name", () => {
  for (const [options, kind, message] of unusable) {
    assert.throws(() => new Player("ws://127.0.0.1:1/dev/", options), error => {
      assert.ok(error instanceof kind, message);
      assert.match(error.message, message);
      return true;
    });
  }
});

const LONE = "hello \ud83d";

test("a lone surrogate is refused before anything is sent", async () => {
  const {player, socket} = await online();

  const refused = [
    player.send(LONE, "hello"), player.send("2", LONE), player.send("2", "hello", LONE),
    player.ask({action: "ping", routeKey: LONE}), player.ask({action: "ping", [LONE]: 1}),
    player.ask({action: "ping", routeKey: [{deep: LONE}]}),
  ];

  for (const promise of refused) {
    await assert.rejects(promise, error => {
      assert.ok(error instanceof Refused);
      assert.equal(error.code, "invalid_frame");
      assert.ok(!error.message.includes("hello"));
      return true;
    });
  }
  assert.deepEqual(socket.sent, []);
  player.close();
});

test("a pair of surrogates and a backslash are sent as they are", async () => {
  const {player, socket} = await online();
  const text = "\u{1f600} \\ud83d";

  const sending = player.send("2", text);
  await turn();
  socket.receives(ack(socket.sent[0]));
  await sending;

  assert.equal(socket.sent[0].message, text);
  player.close();
});

test("a recipient, a message or a clientMessageId that isn't a string is refused, and later sends go on", async () => {
  const {player, socket} = await online();
  const throwing = {toString() { throw new Error("no"); }, toJSON() { throw new Error("no"); }};

  const refused = [
    ...[undefined, null, 5, 5n, Symbol("x"), ["2"], throwing].flatMap(strange => [
      player.send(strange, "hello"), player.send("2", strange),
    ]),
    ...[5, 5n, 0, false, Symbol("x"), throwing].map(strange => player.send("2", "hello", strange)),
  ];
  const sending = player.send("2", "hello");

  for (const promise of refused) await assert.rejects(promise, {code: "invalid_frame"});
  await turn();
  socket.receives(ack(socket.sent[0]));
  assert.equal((await sending).messageId, "01c");
  assert.equal(socket.sent.length, 1);
  player.close();
});

for (const nothing of ["", null, undefined]) {
  test(`a clientMessageId of ${JSON.stringify(nothing)} is made up`, async () => {
    const {player, socket} = await online();

    player.send("2", "hello", nothing).catch(() => {});
    await turn();

    assert.match(socket.sent[0].clientMessageId, /^[0-9a-f]{32}$/);
    player.close();
  });
}

test("a frame that JSON can't write as an object is rejected, and later frames go on", async () => {
  const {player, socket} = await online();
  const cycle = {action: "ping"};
  cycle.cycle = cycle;

  const strange = [cycle, {action: 1n}, undefined, null, 5, 5n, "ping", ["ping"], () => {}, Symbol("x"), {toJSON() {}}];
  for (const frame of strange) await assert.rejects(player.ask(frame), TypeError);
  const asking = player.ask({action: "ping"});
  await turn();
  socket.receives({type: "pong", ackId: socket.sent[0].ackId});

  assert.equal((await asking).type, "pong");
  assert.equal(socket.sent.length, 1);
  player.close();
});

test("a frame that writes itself still carries an ackId", async () => {
  const {player, socket} = await online();

  player.ask({toJSON: () => ({action: "ping"})}).catch(() => {});
  await turn();

  assert.deepEqual(socket.sent, [{action: "ping", ackId: 1}]);
  player.close();
});

test("a send isn't overtaken by a later one, even when it is refused", async () => {
  const {player, socket} = await online();
  const first = player.send("nobody#", "one"), second = player.send("2", "two");
  await turn();
  assert.deepEqual(socket.sent.map(({message}) => message), ["one"]);

  socket.receives({type: "error", code: "invalid_frame", detail: "", retryable: false, ackId: 1});
  await assert.rejects(first, {code: "invalid_frame"});
  await turn();
  socket.receives(ack(socket.sent[1]));

  assert.equal((await second).messageId, "01c");
  player.close();
});

test("the answer to a frame that the service couldn't read is its refusal, without an ackId", async () => {
  const {player, socket} = await online();
  const asking = player.ask({action: "ping"});
  await turn();

  socket.receives({type: "error", code: "invalid_json", detail: "", retryable: false});

  assert.equal((await asking).code, "invalid_json");
  player.close();
});

test("of several frames, none is taken for the one that the service couldn't read", async () => {
  const {player, socket} = await online();
  const asking = [player.ask({action: "ping"}), player.ask({action: "ping"})];
  await turn();

  socket.receives({type: "error", code: "invalid_json", detail: "", retryable: false});

  assert.deepEqual(await Promise.all(asking), Array(2).fill({type: "error", retryable: true}));
  player.close();
});

test("closing ends a send that waits for its next try", async () => {
  const {player, socket} = await online();
  const sending = player.send("2", "hello");
  await turn();
  socket.receives({...rateLimited, retryAfterMs: 1e9});
  await new Promise(later => setTimeout(later, 50));
  assert.equal(socket.sent.length, 1);

  player.close();

  await assert.rejects(sending, Offline);
});

test("a first try that had no token asks for nothing old", async () => {
  const before = Socket.made.length;
  let tries = 0;
  const token = () => (++tries === 1 ? Promise.reject(Symbol("no")) : "t");
  const player = new Player("ws://127.0.0.1:1/dev/", {token, timing: {retry: 0.01}});

  player.connect().catch(() => {});
  while (Socket.made.length === before) await new Promise(again => setTimeout(again, 5));

  assert.deepEqual(Socket.made.at(-1).query, {});
  player.close();
});

test("a player that its observer closes at a ping, and connects again, stays connected", async t => {
  t.mock.timers.enable({apis: ["setTimeout"]});
  let pings = 0;
  const observe = (event, about) => {
    if (event === "sent" && about.action === "ping" && ++pings === 1) player.close();
  };
  const {player} = await online({observe});
  t.mock.timers.tick(300_000);
  player.connect();
  await turn();
  const socket = Socket.made.at(-1);
  socket.onopen();
  socket.receives(connected);

  t.mock.timers.tick(30_000);
  player.ask({action: "sync"}).catch(() => {});
  await turn();

  assert.equal(socket.sent[0].action, "sync");
  player.close();
});

test("sends that wait when a player is closed are not sent by its next session", async () => {
  const {player} = await online();
  const sending = ["one", "two", "three"].map(text => player.send("2", text));
  const asking = player.ask({action: "ping"});
  await turn();

  player.close();
  player.connect().catch(() => {});

  for (const promise of [...sending, asking]) await assert.rejects(promise, Offline);
  await turn();
  const socket = Socket.made.at(-1);
  socket.onopen();
  socket.receives(connected);
  await turn();
  assert.deepEqual(socket.sent, []);
  player.close();
});

test("an iteration ends with its session, and the next one goes on", async () => {
  const {player} = await online();
  const reading = player[Symbol.asyncIterator]().next();

  player.close();
  player.connect().catch(() => {});

  assert.equal((await reading).done, true);
  await turn();
  Socket.made.at(-1).onopen();
  Socket.made.at(-1).receives(message("one"));
  assert.equal((await player[Symbol.asyncIterator]().next()).value.message, "one");
  player.close();
});

test("what an observer promises and breaks is reported, and disturbs nothing", async t => {
  const reported = t.mock.method(console, "error", () => {});
  const {player, socket} = await online({observe: async () => { throw new Error("no"); }});

  socket.receives(message("one"));

  assert.equal((await player[Symbol.asyncIterator]().next()).value.message, "one");
  await turn();
  assert.ok(reported.mock.calls.every(call => call.arguments[0].message === "no"));
  assert.ok(reported.mock.calls.length >= 4);
  player.close();
});

test("an observer that closes at the first of several frames leaves none of them in the air", async () => {
  const {player} = await online({observe: event => { if (event === "sent") player.close(); }});

  const asking = [player.ask({action: "ping"}), player.ask({action: "ping"})];

  for (const promise of asking) await assert.rejects(promise, Offline);
});

/* Messages with ids that go up, from the first number to before the last. */
const numbered = (first, last) => Array.from({length: last - first}, (_, n) => ({
  type: "message", messageId: `02-${String(first + n).padStart(6, "0")}`, srcPlayerId: "2", message: String(first + n),
}));

async function texts(iterator, count) {
  const read = [];
  while (read.length < count) read.push((await iterator.next()).value.message);
  return read;
}

const range = (first, last) => numbered(first, last).map(({message: text}) => text);
const HALF = UNREAD_MESSAGES / 2;

test("a player with too many unread messages is offline until half is read", async () => {
  const lost = [];
  const {player, socket} = await online({observe: (event, why) => { if (event === "lost") lost.push(why); }});
  const before = Socket.made.length, iterator = player[Symbol.asyncIterator]();

  socket.receives(...numbered(0, UNREAD_MESSAGES + 1));
  await turn();
  assert.deepEqual(lost, ["too many unread messages"]);
  assert.equal(socket.onmessage, null);
  const read = await texts(iterator, HALF - 1);
  await new Promise(later => setTimeout(later, 1000));
  assert.equal(Socket.made.length, before);

  read.push(...await texts(iterator, 1));
  const next = await nextSocket(before);
  assert.equal(next.query.after, `02-${String(UNREAD_MESSAGES - 1).padStart(6, "0")}`);
  next.receives(...numbered(UNREAD_MESSAGES - 10, UNREAD_MESSAGES + HALF));
  read.push(...await texts(iterator, UNREAD_MESSAGES));

  assert.deepEqual(read, range(0, UNREAD_MESSAGES + HALF));
  player.close();
});

test("replies come over a full connection, and its position stands still until half is read", async () => {
  const {player, socket} = await online();
  const before = Socket.made.length, iterator = player[Symbol.asyncIterator]();
  const sending = player.send("2", "hello");
  await turn();

  socket.receives(...numbered(0, 2 * UNREAD_MESSAGES), ack(socket.sent[0]), {...connected, messageId: "03"});
  await sending;
  const asking = player.ask({action: "ping"});
  await turn();
  socket.receives({type: "pong", ackId: socket.sent[1].ackId}, ...numbered(2 * UNREAD_MESSAGES, 2 * UNREAD_MESSAGES + 1));
  await asking;

  assert.equal(player.position, numbered(UNREAD_MESSAGES - 1, UNREAD_MESSAGES)[0].messageId);
  assert.deepEqual(await texts(iterator, HALF), range(0, HALF));
  assert.equal((await nextSocket(before)).query.after, player.position);
  player.close();
});

test("a full player that must send connects again at once", async () => {
  const {player, socket} = await online();
  const before = Socket.made.length;
  socket.receives(...numbered(0, UNREAD_MESSAGES + 1));

  const sending = player.send("2", "hello");
  const next = await nextSocket(before);
  next.receives(...numbered(UNREAD_MESSAGES, UNREAD_MESSAGES + 100));
  await turn();
  next.receives(ack(next.sent[0]));
  await sending;

  next.receives(...numbered(UNREAD_MESSAGES + 100, UNREAD_MESSAGES + 200));
  assert.notEqual(next.onmessage, null);
  player.close();
});

test("connect() resolves when too many messages of a backlog are unread", async () => {
  const before = Socket.made.length;
  const player = new Player("ws://127.0.0.1:1/dev/", {after: "0"});
  const connecting = player.connect();

  (await nextSocket(before)).receives(...numbered(0, UNREAD_MESSAGES + 1));

  await connecting;
  player.close();
});

test("a connection that isn't greeted is pinged after 60 seconds, and a greeted one isn't", async t => {
  const before = Socket.made.length;
  const player = new Player("ws://127.0.0.1:1/dev/");
  player.connect().catch(() => {});
  while (Socket.made.length === before) await turn();
  t.mock.timers.enable({apis: ["setTimeout"]});
  const socket = Socket.made.at(-1);
  socket.onopen();

  t.mock.timers.tick(60_000);
  assert.deepEqual(socket.sent, [{action: "ping"}]);

  socket.receives({type: "pong"}, connected);
  t.mock.timers.tick(299_000);
  assert.equal(socket.sent.length, 1);
  t.mock.timers.tick(1_000);
  assert.equal(socket.sent.length, 2);
  player.close();
});
