/* The JavaScript client against a socket that the test plays. */

import assert from "node:assert/strict";
import {test} from "node:test";

class Socket {
  static made = [];
  sent = [];

  constructor() {
    Socket.made.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {}

  receives(...frames) {
    for (const frame of frames) this.onmessage({data: JSON.stringify(frame)});
  }
}

globalThis.WebSocket = Socket;
const {Offline, Player, Refused} = await import("../clients/player.mjs");

const connected = {type: "system", event: "connected", messageId: "01a", connectionId: "c", playerId: "1"};
const message = text => ({type: "message", messageId: `01b-${text}`, srcPlayerId: "2", message: text});
const turn = () => new Promise(setImmediate);

/* A player and its socket, connected. */
async function online(options = {}) {
  const player = new Player("ws://127.0.0.1:1/dev/", {playerId: "1", ...options});
  const connecting = player.connect();
  await turn();
  const socket = Socket.made.at(-1);
  socket.onopen();
  socket.receives(connected);
  await connecting;
  return {player, socket};
}

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
