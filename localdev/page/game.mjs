/* Star skaters: a game for two, and a start for your own.

   Positions are signals, ten per second: they aren't stored, and the next one replaces a lost one. Catches are
   messages to a room: they are stored, and all players get them in one order. A player who reloads the page gets
   them again, because the player begins at position 0. Presence says who is on the ice. */

import {Player} from "/page/player.mjs";
import {element} from "/page/elements.mjs";
import {Game, HEIGHT, Skater, WIDTH} from "/page/rules.mjs";
import {service} from "/page/service.mjs";

const SIGNAL_MS = 100;  // Half of a player's default rate. The other half is for catches.
const RIPE_MS = 700;  // A new star can be caught after this time, so that all players see it first.
const SILENT_MS = 500;  // A skater without a signal for this time has stopped pushing.
const KEYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  a: [-1, 0], d: [1, 0], w: [0, -1], s: [0, 1]};

const find = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);
const myId = parameters.get("player") || `skater-${crypto.getRandomValues(new Uint16Array(1))[0] % 1000}`;
const roomId = parameters.get("room") || "star-skaters";

const game = new Game();
const me = new Skater(), mine = skaterElement(myId);
const others = new Map();  // The players who are on the ice, each with a skater and the time of the last signal.
const keys = new Set();
let finger = null;  // Where the mouse or a finger presses, on the ice.
let signalled, caught, ripeAt = 0, player;

// What the service says

async function followMessages() {
  for await (const message of player) {
    if (message.roomId !== roomId) continue;
    const before = game.pointsOf(message.srcPlayerId);
    if (!game.count(message)) continue;
    ripeAt = performance.now() + RIPE_MS;
    const didCatch = game.pointsOf(message.srcPlayerId) > before;
    find("news").textContent = `${nameOf(message.srcPlayerId)} ${didCatch ? "caught the star." : "started a game."}`;
    showPoints();
  }
}

async function followSignals() {
  for await (const {srcPlayerId, data, roomId: from} of player.signals()) {
    if (from !== roomId || srcPlayerId === myId) continue;
    enter(srcPlayerId);
    const other = others.get(srcPlayerId);
    if (other.skater.take(data)) other.heardAt = performance.now();
  }
}

async function followPresence() {
  for await (const event of player.presenceEvents()) {
    if (event.roomId === roomId) takePresence(event);
  }
}

function takePresence({type, members, online, playerId, member}) {
  const here = new Set(type === "members" ? Object.keys(online ?? {}) : []);
  if (type === "presence" && online && member !== false) {
    here.add(playerId);
    signalled = undefined;  // A newcomer doesn't know where I am. Nor does a player who has reloaded the page.
  }
  for (const each of type === "members" ? [...others.keys(), ...members] : [playerId]) {
    if (here.has(each)) enter(each);
    else leave(each);
  }
  showPoints();
}

function enter(playerId) {
  if (playerId === myId || others.has(playerId)) return;
  others.set(playerId, {skater: new Skater(), heardAt: -Infinity, drawn: skaterElement(playerId)});
  showPoints();
}

function leave(playerId) {
  others.get(playerId)?.drawn.remove();
  others.delete(playerId);
}

// What the service is told

function tellPosition() {
  const signal = me.toSignal();
  if (signal === signalled) return;
  signalled = signal;
  player.signalToRoom(roomId, signal).catch(showFailure);
}

function tell(move) {
  player.sendToRoom(roomId, JSON.stringify({move, star: game.star})).catch(showFailure);
}

function showFailure(failure) {
  find("news").textContent = failure.message;
}

// Keys and fingers

function pushOf(pressed, toward) {
  let [x, y] = [...pressed].reduce(([sumX, sumY], key) => [sumX + KEYS[key][0], sumY + KEYS[key][1]], [0, 0]);
  if (toward !== null) [x, y] = [3 * (toward.x - me.x) - me.u, 3 * (toward.y - me.y) - me.v];
  const length = Math.max(1, Math.hypot(x, y));
  return {x: x / length, y: y / length};
}

function press(event) {
  const {left, top, width, height} = find("ice").getBoundingClientRect();
  finger = {x: WIDTH * (event.clientX - left) / width, y: HEIGHT * (event.clientY - top) / height};
}

function listen() {
  const ice = find("ice"), keyOf = ({key}) => key.length === 1 ? key.toLowerCase() : key;
  addEventListener("keydown", event => {
    if (!Object.hasOwn(KEYS, keyOf(event)) || event.ctrlKey || event.metaKey || event.altKey) return;
    keys.add(keyOf(event));
    event.preventDefault();  // The arrow keys would scroll the page.
  });
  addEventListener("keyup", event => keys.delete(keyOf(event)));
  addEventListener("blur", () => keys.clear());
  ice.addEventListener("pointerdown", event => {
    ice.setPointerCapture(event.pointerId);
    press(event);
  });
  ice.addEventListener("pointermove", event => finger !== null && press(event));
  for (const end of ["pointerup", "pointercancel"]) ice.addEventListener(end, () => (finger = null));
  find("new-game").addEventListener("click", () => tell("start"));
}

// The picture

function nameOf(playerId) {
  return playerId === myId ? "You" : playerId;
}

function skaterElement(playerId) {
  const kind = playerId === myId ? "skater mine" : "skater", name = playerId.slice(0, 12);
  const drawn = element("div", {class: kind}, element("b"), element("span", {text: name}));
  find("ice").append(drawn);
  return drawn;
}

function showPoints() {
  const players = [...new Set([myId, ...others.keys(), ...game.points.keys()])];
  find("points").replaceChildren(...players.map(playerId => element("li", {class: playerId === myId ? "mine" : ""},
    `${nameOf(playerId)} `, element("b", {text: `★ ${game.pointsOf(playerId)}`}))));
  for (const [playerId, {drawn}] of [[myId, {drawn: mine}], ...others]) {
    drawn.firstElementChild.textContent = game.pointsOf(playerId);
  }
  find("winner").hidden = game.winner === undefined;
  find("winner").textContent = game.winner === myId ? "You win!" : `${game.winner} wins!`;
}

function place(drawn, {x, y}) {
  drawn.style.left = `${100 * x / WIDTH}%`;
  drawn.style.top = `${100 * y / HEIGHT}%`;
}

function animate() {
  let before = performance.now();
  requestAnimationFrame(function frame(now) {
    const seconds = Math.min(0.1, Math.max(0, now - before) / 1000);
    before = now;
    me.push = pushOf(keys, finger);
    me.move(seconds, game.powerOf(myId));
    place(mine, me.shown);
    for (const [playerId, {skater, heardAt, drawn}] of others) {
      if (now - heardAt > SILENT_MS) skater.push = {x: 0, y: 0};
      skater.move(seconds, game.powerOf(playerId));
      place(drawn, skater.shown);
    }
    showStar(now);
    requestAnimationFrame(frame);
  });
}

function showStar(now) {
  const isThere = game.star !== null && game.winner === undefined;
  find("star").hidden = !isThere;
  if (!isThere) return;
  place(find("star"), game.place);
  find("star").classList.toggle("ripe", now >= ripeAt);
  if (now < ripeAt || caught === game.star || !me.reaches(game.place)) return;
  caught = game.star;
  tell("catch");
}

// The start

function observe(event, about) {
  if (event === "open") find("news").textContent = "";
  if (event === "lost") find("news").textContent = `Connection lost: ${about}`;
}

async function play({url, isOpen}) {
  if (!isOpen) throw new Error("This game needs a stage without tokens.");
  parameters.set("player", myId);
  history.replaceState(null, "", `?${parameters}`);  // A reload is the same player.
  find("invite").href = `?${new URLSearchParams({room: roomId})}`;
  player = new Player(url, {playerId: myId, after: "0", observe});
  const connected = player.connect();
  for (const follow of [followMessages, followSignals, followPresence]) follow().catch(showFailure);
  await connected;
  await player.join(roomId, {presence: true});
  takePresence(await player.members(roomId));
  if (game.star === null) tell("start");
  listen();
  animate();
  setInterval(tellPosition, SIGNAL_MS);
}

play(await service()).catch(showFailure);
