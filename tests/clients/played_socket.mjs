/* A WebSocket that a test plays. Importing this replaces the global one. */

import {afterEach} from "node:test";
import {Player} from "../../clients/player.mjs";

export class Socket {
  static made = [];
  sent = [];

  constructor(url, protocols) {
    this.query = Object.fromEntries(url.searchParams);
    this.protocols = protocols;
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

export const connected = {type: "system", event: "connected", messageId: "01a", connectionId: "c", playerId: "1"};
export const message = text => ({type: "message", messageId: `01b-${text}`, srcPlayerId: "2", message: text});
export const ack = ({ackId}) => ({type: "ack", ackId, messageId: "01c"});
export const turn = () => new Promise(setImmediate);

/* Players of the running test. A failed test leaves its player open, whose timers would keep the process alive. */
const players = [];
afterEach(() => {
  for (const player of players.splice(0)) player.close();
});

/* A player and its socket, connected. */
export async function online(options = {}) {
  const player = new Player("ws://127.0.0.1:1/dev/", {playerId: "1", ...options});
  players.push(player);
  const connecting = player.connect();
  await turn();
  const socket = Socket.made.at(-1);
  socket.onopen();
  socket.receives(connected);
  await connecting;
  return {player, socket};
}

/* Resolves with the player's next socket, which is open. */
export async function nextSocket(before) {
  while (Socket.made.length === before) await new Promise(again => setTimeout(again, 5));
  Socket.made.at(-1).onopen();
  return Socket.made.at(-1);
}
