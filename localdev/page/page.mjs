/* The playground: players, the steps of their messages, and the tables. */

import {Panel} from "/page/panel.mjs";
import {Rows} from "/page/rows.mjs";
import {Sequence} from "/page/sequence.mjs";
import {follow, service, tables, vanish} from "/page/service.mjs";

const REFRESH_MS = 150;
const PINGS = 150;

const about = await service();
const sequence = new Sequence();
const rows = new Rows();
const panels = [];

function addPlayer() {
  const name = String(panels.length + 1), sentAt = new Map();
  const panel = new Panel(name, panels.length === 0 ? "2" : "1", about, (event, frame, at) => {
    if (event === "sent") sentAt.set(frame.ackId, at);
    else sequence.frame(event, frame, at, sentAt.get(frame.ackId));
    if (event === "received") sentAt.delete(frame.ackId);
  });
  panels.push(panel);
  document.getElementById("players").append(panel.element);
  if (about.isOpen) panel.connect();
}

let refreshing;
function refreshRows() {
  refreshing ??= setTimeout(async () => {
    refreshing = undefined;
    rows.show(await tables());
  }, REFRESH_MS);
}

// The demonstrations behind the buttons

function explain(...sentences) {
  document.getElementById("explanation").textContent = sentences.join(" ");
}

function onClick(id, show) {
  document.getElementById(id).addEventListener("click", show);
}

/* Return a demonstration that runs only when players 1 and 2 are connected. */
function withTwo(show) {
  return async () => {
    const [one, two] = panels;
    if (one.connectionId !== null && two.connectionId !== null) await show(one, two);
    else explain("Connect players 1 and 2 first.");
  };
}

/* Return a demonstration that runs when players 1 to 3 are connected. On an open stage, it connects them. */
function withThree(show) {
  return async () => {
    while (panels.length < 3) addPlayer();
    const three = panels.slice(0, 3);
    if (about.isOpen) await Promise.all(three.map(panel => panel.connect()));
    if (three.every(panel => panel.connectionId !== null)) await show(...three);
    else explain("Connect players 1, 2 and 3 first.");
  };
}

onClick("show-refusal", () => {
  explain(
    "A client connects with an invalid player id, and the handshake is refused.",
    "The service logs the HTTP status. Browsers tell a page only that the connection failed.",
  );
  new WebSocket(`${about.url}?playerId=no%23body`);
});

onClick("show-rate-limit", withTwo(async one => {
  explain(`Player 1 sends ${PINGS} pings at once. The service refuses those over the rate limit.`);
  await Promise.all(Array.from({length: PINGS}, () => one.player.ask({action: "ping"})));
}));

onClick("show-replay", withTwo(async (one, two) => {
  explain(
    "Player 2 goes offline, and player 1 writes three messages.",
    "The service replays them when player 2 reconnects.",
  );
  two.disconnect();
  for (const text of ["Are you there?", "It's your turn.", "I'll wait."]) await one.send("2", text);
  await two.connect();
}));

onClick("show-gone", withTwo(async (one, two) => {
  explain(
    "Player 2's connection breaks, and the service isn't notified. The next post to it returns 410.",
    "The service then removes the connection, and replays the message when player 2 reconnects.",
  );
  await vanish(two.connectionId);
  await one.send("2", "Can you hear me?");
}));

onClick("show-room", withThree(async (one, ...others) => {
  explain(
    "Three players join the room #lobby, and player 1 writes to it.",
    "The service stores the message once. Then push_messages copies it to every member.",
  );
  await Promise.all([one, ...others].map(panel => panel.join("lobby")));
  await one.send("#lobby", "Hello, everyone!");
}));

onClick("add-player", addPlayer);

addPlayer();
addPlayer();
refreshRows();
await follow(
  steps => {
    steps.forEach(step => sequence.happened(step));
    if (steps.some(({step}) => step !== "signalled")) refreshRows();  // A signal stores nothing.
  },
  () => sequence.clear(),
);
