/* The game's rules and physics, without the page and the service. The ice is 4 wide and 3 high. */

export const WIDTH = 4, HEIGHT = 3;
const GOAL = 7;
const POWER = 5;  // The acceleration of a skater who pushes.
const SLOWER_PER_STAR = 0.06;  // A leader loses so much of it for each star ahead.
const FRICTION = 1.1;
const BOUNCE = 0.7;
const RADIUS = 0.18;
const CORRECTED_PER_SECOND = 8;
const NEAR = 1;  // A new star is farther from the old one, so that it isn't next to who caught that.

/* The game that results from the room's messages. All members get them in one order, so all count alike.

   Each counted message places the next star, and a catch names the star that it caught. Of two catches of one
   star, everybody counts the one that the room stored first, and ignores the other. */
export class Game {
  star = null;  // The id of the message that placed the star. Null before the first game.
  place = null;  // Where the star is, as {x, y}.
  points = new Map();

  /* Count a message, and return whether it changed the game. Players can send anything. */
  count({messageId, srcPlayerId, message}) {
    const {move, star} = parsed(message);
    if (move === "start" && (star === this.star || star === null)) {
      this.points = new Map();
      this.place = placeOf(messageId);
    } else if (move === "catch" && star === this.star && star !== null && this.winner === undefined) {
      this.points.set(srcPlayerId, this.pointsOf(srcPlayerId) + 1);
      this.place = placeOf(messageId, this.place);
    } else return false;
    this.star = messageId;
    return true;
  }

  pointsOf(playerId) {
    return this.points.get(playerId) ?? 0;
  }

  get winner() {
    return [...this.points].find(([, points]) => points >= GOAL)?.[0];
  }

  /* Return how strongly a player can push: less while the player leads. */
  powerOf(playerId) {
    const others = [...this.points].filter(([other]) => other !== playerId).map(([, points]) => points);
    const lead = Math.max(0, this.pointsOf(playerId) - Math.max(0, ...others));
    return POWER * (1 - SLOWER_PER_STAR * lead);
  }
}

/* Return a star's place, which isn't near `before`. It comes from random digits of the message's id, so nobody knows
   it earlier than others. */
function placeOf(messageId, before) {
  const digits = messageId.replaceAll("-", "").slice(-12);
  const [across, down] = [digits.slice(0, 6), digits.slice(6)].map(part => parseInt(part, 16) / 0xffffff);
  const at = share => ({x: WIDTH * (0.1 + 0.8 * share), y: HEIGHT * (0.1 + 0.8 * down)});
  return before && distance(at(across), before) < NEAR ? at((across + 0.5) % 1) : at(across);
}

/* A skater's place, speed and push. `push` has a length of at most 1. */
export class Skater {
  x = WIDTH / 2;
  y = HEIGHT / 2;
  u = 0;
  v = 0;
  push = {x: 0, y: 0};
  #jump = {x: 0, y: 0};

  move(seconds, power) {
    const slowing = Math.exp(-FRICTION * seconds), smoothing = Math.exp(-CORRECTED_PER_SECOND * seconds);
    this.u = (this.u + power * this.push.x * seconds) * slowing;
    this.v = (this.v + power * this.push.y * seconds) * slowing;
    [this.x, this.u] = bounced(this.x + this.u * seconds, this.u, WIDTH);
    [this.y, this.v] = bounced(this.y + this.v * seconds, this.v, HEIGHT);
    this.#jump = {x: this.#jump.x * smoothing, y: this.#jump.y * smoothing};
  }

  /* Return where to draw the skater: a correction is spread over some frames. */
  get shown() {
    return {x: this.x + this.#jump.x, y: this.y + this.#jump.y};
  }

  reaches(place) {
    return distance(this, place) < 1.8 * RADIUS;
  }

  /* Return the text of a signal. It says everything, so a lost signal doesn't matter after the next one. */
  toSignal() {
    return JSON.stringify([this.x, this.y, this.u, this.v, this.push.x, this.push.y].map(number => +number.toFixed(3)));
  }

  /* Take another player's signal, and return whether it is one of a skater. */
  take(data) {
    const numbers = parsed(data);
    if (!Array.isArray(numbers) || numbers.length !== 6 || !numbers.every(Number.isFinite)) return false;
    const {x, y} = this.shown;
    [this.x, this.y, this.u, this.v] = numbers;
    this.push = {x: numbers[4], y: numbers[5]};
    this.#jump = {x: x - this.x, y: y - this.y};
    return true;
  }
}

function distance(one, other) {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

function bounced(place, speed, end) {
  const inside = Math.min(Math.max(place, RADIUS), end - RADIUS);
  return inside === place ? [place, speed] : [inside, -BOUNCE * speed];
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
