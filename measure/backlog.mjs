/* Receives a backlog with clients/player.mjs, for measure/backlog.py. */

import {Player} from "../clients/player.mjs";

const {url, count, ping, answer} = JSON.parse(process.argv[2]);
const events = {}, received = [];

function add(event) {
  events[event] = (events[event] ?? 0) + 1;
}

const player = new Player(url, {
  playerId: "hoarder",
  after: "0",
  timing: {answer},
  observe: event => event === "open" && add(event),
});
const connecting = player.connect();  // Reading begins before the greeting, which comes after the backlog.
const pinging = setInterval(async () => {
  const reply = await player.ask({action: "ping"});
  add(reply.code ?? reply.type);
}, 1000 * ping);
for await (const {message} of player) {
  received.push(message);
  if (received.length === count) break;
}
clearInterval(pinging);
await connecting;
// Exits as soon as all is written, without waiting for a closing handshake.
process.stdout.write(JSON.stringify({received, events}), () => process.exit(0));
