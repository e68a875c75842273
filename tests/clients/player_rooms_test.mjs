/* The JavaScript client's rules for rooms, signals and presence, against a socket that the test plays. */

import assert from "node:assert/strict";
import {readFile} from "node:fs/promises";
import {test} from "node:test";
import * as client from "../../clients/player.mjs";
import {ack, connected, message, nextSocket, online, Socket, turn} from "./played_socket.mjs";

const {Kicked, Offline, Player, Refused, UNREAD_MESSAGES, UNREAD_PRESENCE, UNREAD_SIGNALS} = client;

const SEEN_AT = 1790000000000;
const roomMessage = {...message("hello"), messageId: "02", position: "05", roomId: "lobby"};
const members = {type: "members", roomId: "lobby", members: ["1", "2"], online: {"2": SEEN_AT}};
const signalFrame = data => ({type: "signal", data: String(data), srcPlayerId: "2"});
const later = milliseconds => new Promise(wake => setTimeout(wake, milliseconds));

const presenceFrame = (...players) => (
  {type: "presence", roomId: "lobby", players: players.map(player => ({member: true, lastSeenAt: SEEN_AT, ...player}))}
);
const presenceEvent = (playerId, isOnline, member = true, roomId = "lobby") => (
  {type: "presence", roomId, playerId, online: isOnline, lastSeenAt: SEEN_AT, member}
);

const next = async iteration => (await iteration.next()).value;

/* Answers the socket's newest frame. */
const answers = (socket, frame) => socket.receives({...frame, ackId: socket.sent.at(-1).ackId});

const isRefused = (code, text) => error => {
  assert.ok(error instanceof Refused, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, text);
  return true;
};

// Rooms

const calls = {
  join: [player => player.join("lobby"), {type: "joined", roomId: "lobby", members: 2}, 2],
  leave: [player => player.leave("lobby"), {type: "left", roomId: "lobby"}, undefined],
  members: [player => player.members("lobby"), members, members],
  "members without online": [
    player => player.members("lobby"), {...members, online: undefined}, {...members, online: null},
  ],
  presence: [
    player => player.presence(["2", "3"]),
    {type: "presence", players: [{playerId: "2", online: true, lastSeenAt: SEEN_AT}, {playerId: "3", online: false}]},
    [{playerId: "2", online: true, lastSeenAt: SEEN_AT}, {playerId: "3", online: false, lastSeenAt: null}],
  ],
};

for (const [name, [call, answer, value]] of Object.entries(calls)) {
  test(`${name} resolves with a small value`, async () => {
    const {player, socket} = await online();

    const called = call(player);
    await turn();
    answers(socket, answer);

    assert.deepEqual(await called, value);
    player.close();
  });
}

test("calls send the frames of the protocol", async () => {
  const {player, socket} = await online();

  const asked = [
    player.join("lobby", {presence: true}), player.members("lobby"), player.presence(["2"]),
    player.signal("2", "x"), player.signalToRoom("lobby", "x"),
  ];
  await turn();

  assert.deepEqual(socket.sent.map(frame => ({...frame, ackId: null})).sort((a, b) => a.action < b.action ? -1 : 1), [
    {action: "join", roomId: "lobby", presence: true, ackId: null},
    {action: "members", roomId: "lobby", ackId: null},
    {action: "presence", playerIds: ["2"], ackId: null},
    {action: "signal", destinationPlayerId: "2", data: "x", ackId: null},
    {action: "signal", roomId: "lobby", data: "x", ackId: null},
  ]);
  player.close();
  await Promise.allSettled(asked);
});

test("a send to a room is retried with its clientMessageId", async () => {
  const {player, socket} = await online({timing: {retry: 0.01}});
  const before = Socket.made.length;
  const sending = player.sendToRoom("lobby", "hello");
  await turn();

  socket.onclose({code: 1006, reason: ""});
  const again = await nextSocket(before);
  await turn();
  again.receives(ack(again.sent[0]));

  await sending;
  const [first, second] = [socket.sent[0], again.sent[0]];
  assert.equal(first.clientMessageId, second.clientMessageId);
  assert.deepEqual([first.roomId, first.message, first.destinationPlayerId], ["lobby", "hello", undefined]);
  player.close();
});

const retried = {...calls, send: [player => player.sendToRoom("lobby", "hello"), {type: "ack", messageId: "03"}]};

for (const [name, [call, answer]] of Object.entries(retried)) {
  test(`${name} that is over the rate is retried`, async () => {
    const {player, socket} = await online({timing: {retry: 0.001}});

    const called = call(player);
    await turn();
    answers(socket, {type: "error", code: "rate_limited", detail: "", retryable: true, retryAfterMs: 1});
    while (socket.sent.length < 2) await later(5);
    answers(socket, answer);

    await called;
    player.close();
  });

  test(`${name} that is refused rejects with the code`, async () => {
    const {player, socket} = await online();

    const called = call(player);
    await turn();
    answers(socket, {type: "error", code: "not_a_member", detail: "no", retryable: false});

    await assert.rejects(called, isRefused("not_a_member", /no/));
    player.close();
  });
}

test("joins, sends and leaves aren't overtaken by later ones", async () => {
  const {player, socket} = await online({timing: {retry: 0.001}});

  const asked = [player.join("lobby"), player.sendToRoom("lobby", "hello"), player.leave("lobby")];
  await turn();
  answers(socket, {type: "error", code: "rate_limited", detail: "", retryable: true, retryAfterMs: 50});
  while (socket.sent.length < 2) await later(5);
  answers(socket, {type: "joined", roomId: "lobby", members: 1});
  await turn();
  answers(socket, {type: "ack", messageId: "03"});
  await turn();
  answers(socket, {type: "left", roomId: "lobby"});
  await Promise.all(asked);

  assert.deepEqual(socket.sent.map(({action}) => action), ["join", "join", "sendmessage", "leave"]);
  player.close();
});

test("a query doesn't wait for a send", async () => {
  const {player, socket} = await online();
  const sending = player.send("2", "hello");
  await turn();

  const asked = player.members("lobby");
  await turn();
  answers(socket, members);

  assert.deepEqual(await asked, members);
  player.close();
  await assert.rejects(sending, Offline);
});

test("a reconnection doesn't join again", async () => {
  const {player, socket} = await online({timing: {retry: 0.01}});
  const before = Socket.made.length;
  const joining = player.join("lobby");
  await turn();
  answers(socket, {type: "joined", roomId: "lobby", members: 1});
  await joining;

  socket.onclose({code: 1006, reason: ""});
  const again = await nextSocket(before);
  again.receives(connected);
  await turn();

  assert.deepEqual(again.sent, []);
  player.close();
});

test("a room that can't exist is refused before anything is sent", async () => {
  const {player, socket} = await online();

  for (const roomId of ["", "a".repeat(65), "a room", "room#1", "raum\u00fc", "lobby\n", null, undefined, 5, ["lobby"]]) {
    const asked = [
      player.join(roomId), player.leave(roomId), player.members(roomId), player.sendToRoom(roomId, "hello"),
      player.signalToRoom(roomId, "typing"),
    ];
    for (const call of asked) await assert.rejects(call, isRefused("invalid_frame", /roomId must be 1 to 64 of/));
  }

  assert.deepEqual(socket.sent, []);
  player.close();
});

test("every character of a player's id is allowed in a room's id", async () => {
  const {player, socket} = await online();

  player.members("aZ09._@|:+!'/=-" + "x".repeat(49)).catch(() => {});
  await turn();

  assert.equal(socket.sent.length, 1);
  player.close();
});

test("a presence query of no or too many players is refused", async () => {
  const {player, socket} = await online();

  for (const playerIds of [[], "2", undefined, Array(101).fill("2")]) {
    await assert.rejects(player.presence(playerIds), isRefused("invalid_frame", /array of 1 to 100 player ids/));
  }

  assert.deepEqual(socket.sent, []);
  player.close();
});

for (const presence of [true, false, undefined]) {
  test(`a join with presence ${presence} starts, ends or keeps it`, async () => {
    const {player, socket} = await online({timing: {retry: 0.01}});
    const before = Socket.made.length;
    for (const options of [{presence: true}, {presence}]) {
      const joining = player.join("lobby", options);
      await turn();
      answers(socket, {type: "joined", roomId: "lobby", members: 1});
      await joining;
    }

    socket.onclose({code: 1006, reason: ""});
    const again = await nextSocket(before);
    again.receives(connected);
    await turn();

    assert.equal(socket.sent.at(-1).presence, presence);
    assert.deepEqual(again.sent.map(({action}) => action), presence === false ? [] : ["members"]);
    player.close();
  });
}

test("an unknown option of a join is named", async () => {
  const {player} = await online();

  await assert.rejects(player.join("lobby", {present: true}), /unknown key present in options: use any of presence/);

  player.close();
});

// Messages

test("a room's message has a roomId and moves the position to its own", async () => {
  const {player, socket} = await online({timing: {retry: 0.01}});
  const before = Socket.made.length, iteration = player[Symbol.asyncIterator]();

  socket.receives(roomMessage, {...message("direct"), messageId: "03"});
  assert.deepEqual([(await next(iteration)).roomId, (await next(iteration)).roomId], ["lobby", undefined]);
  socket.onclose({code: 1006, reason: ""});

  assert.equal((await nextSocket(before)).query.after, "05");
  player.close();
});

test("a repeated room message is dropped and still moves the position", async () => {
  const {player, socket} = await online();
  const iteration = player[Symbol.asyncIterator]();

  socket.receives(roomMessage, {...roomMessage, position: "07"}, {...roomMessage, messageId: "03", position: "06"});

  assert.deepEqual([(await next(iteration)).messageId, (await next(iteration)).messageId], ["02", "03"]);
  assert.equal(player.position, "07");
  player.close();
});

// Signals

test("a signal resolves at once", async () => {
  const {player, socket} = await online();

  assert.deepEqual([await player.signal("2", "x"), await player.signalToRoom("lobby", "x")], [true, true]);

  assert.equal(socket.sent.length, 2);
  player.close();
});

test("a signal while the player reconnects isn't sent and isn't kept", async () => {
  const {player, socket} = await online({timing: {retry: 0.01}});
  const before = Socket.made.length;

  socket.onclose({code: 1006, reason: ""});
  assert.equal(await player.signal("2", "x"), false);
  const again = await nextSocket(before);
  again.receives(connected);
  await turn();

  assert.deepEqual([...socket.sent, ...again.sent], []);
  player.close();
});

test("a signal of a closed player rejects with Offline", async () => {
  const {player} = await online();

  player.close();

  await assert.rejects(player.signal("2", "x"), Offline);
});

test("a refused signal is told to the observer with its ackId, and answers no other frame", async () => {
  const told = [];
  const {player, socket} = await online({observe: (event, about) => told.push([event, about])});
  let isAnswered = false;
  player.ask({action: "ping"}).then(() => { isAnswered = true; }, () => {});
  await turn();
  await player.signal("2", "x");

  const refusal = {type: "error", code: "rate_limited", detail: "", retryable: true, retryAfterMs: 60_000};
  answers(socket, refusal);
  await turn();

  assert.deepEqual(told.at(-1), ["refused", {...refusal, ackId: socket.sent.at(-1).ackId}]);
  assert.equal(isAnswered, false);
  player.close();
});

test("data that no signal can have is refused", async () => {
  const {player, socket} = await online();

  for (const data of ["", "x".repeat(4097), "\u00e9".repeat(2049), null, undefined, 5, {typing: true}]) {
    for (const call of [player.signal("2", data), player.signalToRoom("lobby", data)]) {
      await assert.rejects(call, isRefused("invalid_frame", /data must be a string of 1 to 4096 bytes/));
    }
  }
  await assert.rejects(player.signal("2", "\ud800"), isRefused("invalid_frame", /lone surrogate/));

  assert.deepEqual(socket.sent, []);
  assert.equal(await player.signal("2", "\u00e9".repeat(2048)), true);
  player.close();
});

test("a signal to nobody is refused", async () => {
  const {player, socket} = await online();

  for (const to of ["", null, undefined, 5]) {
    await assert.rejects(player.signal(to, "x"), isRefused("invalid_frame", /to must be a player's id; signalToRoom/));
  }

  assert.deepEqual(socket.sent, []);
  player.close();
});

test("signals have an iteration of their own", async () => {
  const {player, socket} = await online();
  const signals = player.signals();

  socket.receives(signalFrame(1), {...signalFrame(2), roomId: "lobby"}, roomMessage);

  assert.equal((await next(player[Symbol.asyncIterator]())).message, "hello");
  assert.deepEqual(await next(signals), {data: "1", srcPlayerId: "2", roomId: undefined});
  assert.deepEqual(await next(signals), {data: "2", srcPlayerId: "2", roomId: "lobby"});
  assert.equal(player.position, "05");
  player.close();
});

test("the oldest unread signals are dropped, and no message is", async () => {
  const {player, socket} = await online();

  socket.receives(...Array.from({length: 3 * UNREAD_SIGNALS}, (_, n) => signalFrame(n)), roomMessage);

  assert.equal((await next(player[Symbol.asyncIterator]())).message, "hello");
  assert.equal((await next(player.signals())).data, String(2 * UNREAD_SIGNALS));
  player.close();
});

test("iterations of signals and presence end when the player is closed", async () => {
  const {player} = await online();
  const reading = [player.signals().next(), player.presenceEvents().next()];

  player.close();

  for (const promise of reading) assert.equal((await promise).done, true);
});

test("signals arrive while too many messages are unread", async () => {
  const {player, socket} = await online();
  player.send("2", "hello").catch(() => {});  // The connection stays open for the reply.
  await turn();

  for (let n = 0; n <= UNREAD_MESSAGES; n++) socket.receives({...roomMessage, messageId: `02-${n}`});
  socket.receives(signalFrame(1));

  assert.equal((await next(player.signals())).data, "1");
  player.close();
});

// Presence

test("presence events name the player and the room", async () => {
  const {player, socket} = await online({timing: {offline: 0.05}});
  const events = player.presenceEvents();

  socket.receives(presenceFrame({playerId: "2", online: true}, {playerId: "3", online: false}));

  assert.deepEqual(await next(events), presenceEvent("2", true));
  assert.deepEqual(await next(events), presenceEvent("3", false));
  player.close();
});

test("a member who is back in time was never offline", async () => {
  const {player, socket} = await online({timing: {offline: 0.1}});
  const events = player.presenceEvents(), gone = presenceFrame({playerId: "2", online: false});

  socket.receives(gone, {...gone, roomId: "chess"}, presenceFrame({playerId: "2", online: true}));
  await later(300);
  socket.receives(presenceFrame({playerId: "3", online: true}));

  assert.deepEqual(await next(events), presenceEvent("2", true));
  assert.deepEqual(await next(events), presenceEvent("3", true));
  player.close();
});

test("a member is offline after the delay, however often that is said", async () => {
  const {player, socket} = await online({timing: {offline: 0.1}});
  const events = player.presenceEvents(), began = performance.now();

  for (let n = 0; n < 5; n++) socket.receives(presenceFrame({playerId: "2", online: false}));
  socket.receives(presenceFrame({playerId: "3", online: true}));
  assert.deepEqual(await next(events), presenceEvent("3", true));
  assert.deepEqual(await next(events), presenceEvent("2", false));
  assert.ok(performance.now() - began >= 90);
  await later(200);
  socket.receives(presenceFrame({playerId: "4", online: true}));

  assert.deepEqual(await next(events), presenceEvent("4", true));
  player.close();
});

test("a member who leaves is reported at once, and not again", async () => {
  const {player, socket} = await online({timing: {offline: 0.1}});
  const events = player.presenceEvents();

  const gone = {playerId: "2", online: false};
  socket.receives(presenceFrame(gone), presenceFrame({...gone, member: false}));
  assert.deepEqual(await next(events), presenceEvent("2", false, false));
  await later(200);
  socket.receives(presenceFrame({playerId: "3", online: true}));

  assert.deepEqual(await next(events), presenceEvent("3", true));
  player.close();
});

test("closing drops the delayed events", async () => {
  const {player, socket} = await online({timing: {offline: 0.05}});

  socket.receives(presenceFrame({playerId: "2", online: false}));
  player.close();
  await later(150);

  assert.equal((await player.presenceEvents().next()).done, true);
});

test("the oldest unread presence events are dropped", async () => {
  const {player, socket} = await online();

  for (let n = 0; n < UNREAD_PRESENCE + 10; n++) socket.receives(presenceFrame({playerId: String(n), online: true}));

  assert.deepEqual(await next(player.presenceEvents()), presenceEvent("10", true));
  player.close();
});

/* A player who joined the lobby with presence, and reconnected. Resolves with its second socket. */
async function reconnected(player, socket) {
  const before = Socket.made.length;
  for (const [roomId, options] of [["chess", {}], ["left", {presence: true}], ["lobby", {presence: true}]]) {
    const joining = player.join(roomId, options);
    await turn();
    answers(socket, {type: "joined", roomId, members: 1});
    await joining;
  }
  const leaving = player.leave("left");
  await turn();
  answers(socket, {type: "left", roomId: "left"});
  await leaving;
  socket.receives(presenceFrame({playerId: "3", online: false}));
  socket.onclose({code: 1006, reason: ""});
  const again = await nextSocket(before);
  again.receives(connected);
  await turn();
  return again;
}

test("a reconnection reports the members of rooms that were joined with presence", async () => {
  const {player, socket} = await online({timing: {retry: 0.01, offline: 1}});

  const again = await reconnected(player, socket);
  assert.deepEqual(again.sent.map(({action, roomId}) => [action, roomId]), [["members", "lobby"]]);
  answers(again, members);
  const events = player.presenceEvents();
  assert.deepEqual(await next(events), members);
  await later(1200);
  again.receives(presenceFrame({playerId: "4", online: true}));

  assert.deepEqual(await next(events), presenceEvent("4", true));
  player.close();
});

test("a room that refuses its members isn't asked again", async () => {
  const {player, socket} = await online({timing: {retry: 0.01}});
  const again = await reconnected(player, socket);
  const before = Socket.made.length;

  answers(again, {type: "error", code: "not_a_member", detail: "", retryable: false});
  await turn();
  again.onclose({code: 1006, reason: ""});
  const third = await nextSocket(before);
  third.receives(connected);
  await turn();

  assert.deepEqual(third.sent, []);
  player.close();
});

test("rooms are refreshed after every reconnection, also of the next session", async () => {
  const {player, socket} = await online({timing: {retry: 0.01}});
  const again = await reconnected(player, socket);
  const before = Socket.made.length;

  player.close();  // Before the members have arrived.
  player.connect().catch(() => {});
  const third = await nextSocket(before);
  third.receives(connected);
  await turn();

  assert.deepEqual(third.sent.map(({action}) => action), ["members"]);
  player.close();
});

// Ended by the backend

test("a kicked player ends with the reason and doesn't reconnect", async () => {
  const {player, socket} = await online();
  const before = Socket.made.length, iteration = player[Symbol.asyncIterator]();

  socket.receives(roomMessage, {type: "closing", reason: "kicked"});
  assert.equal((await next(iteration)).message, "hello");
  const ended = [
    iteration.next(), player.signals().next(), player.presenceEvents().next(), player.send("2", "hello"),
    player.signal("2", "x"),
  ];
  for (const call of ended) {
    await assert.rejects(call, error => error instanceof Kicked && error.reason === "kicked" && error.until === null);
  }
  await later(600);
  assert.equal(Socket.made.length, before);

  player.connect().catch(() => {});
  await nextSocket(before);
  player.close();
});

test("a player who connects again waits until it can return", async () => {
  const waits = [];
  const {player, socket} = await online({observe: (event, about) => { if (event === "waiting") waits.push(about); }});
  const before = Socket.made.length, until = Date.now() + 1000;

  socket.receives({type: "closing", reason: "banned", until});
  await assert.rejects(player[Symbol.asyncIterator]().next(), error => error.until === until);
  player.connect().catch(() => {});
  await nextSocket(before);

  assert.ok(Date.now() >= until - 50);
  assert.ok(waits[0] > 0 && waits[0] <= 1, waits);
  player.close();
});

test("closing ends the wait of a banned player", async () => {
  const {player, socket} = await online();
  const before = Socket.made.length;
  socket.receives({type: "closing", reason: "banned", until: 1e15});
  const connecting = player.connect();
  await turn();

  player.close();

  await assert.rejects(connecting, Offline);
  assert.equal(Socket.made.length, before);
});

// Malformed frames

const malformed = [
  {...roomMessage, position: 5}, {...roomMessage, position: ""}, {...roomMessage, roomId: 5},
  {type: "joined", members: "2"},
  {type: "signal", data: "x"}, {type: "signal", data: 5, srcPlayerId: "2"},
  {type: "signal", data: "x", srcPlayerId: "2", roomId: []},
  {type: "members", members: []}, {type: "members", roomId: "lobby", members: [5]},
  {type: "members", roomId: "lobby", members: [], online: []},
  {type: "presence"}, {type: "presence", players: [5]}, {type: "presence", players: [{playerId: "2"}]},
  {type: "presence", players: [{playerId: "2", online: true, lastSeenAt: "now"}]},
  {type: "closing"}, {type: "closing", reason: "kicked", until: "tomorrow"},
];

test("a malformed frame is a lost connection", async () => {
  for (const frame of malformed) {
    const lost = [];
    const {player, socket} = await online({observe: (event, about) => { if (event === "lost") lost.push(about); }});

    socket.receives(frame);
    await turn();

    assert.deepEqual(lost, ["a malformed frame"], JSON.stringify(frame));
    player.close();
  }
});

// Types

test("player.d.mts declares what player.mjs exports, and all methods of Player", async () => {
  const types = await readFile(new URL("../../clients/player.d.mts", import.meta.url), "utf8");

  const declared = [...types.matchAll(/^export (?:class|const|function) (\w+)/gm)].map(([, name]) => name);
  const [, body] = types.match(/^export class Player .*?\{\n(.*?)^\}/ms);
  const methods = [...body.matchAll(/^ {2}(\w+)\(/gm)].map(([, name]) => name);

  assert.deepEqual(declared.sort(), Object.keys(client).sort());
  assert.deepEqual(methods.sort(), Object.getOwnPropertyNames(Player.prototype).sort());
});
