/* Draws the steps of each message and each connection as they happen. */

import {element, prepend} from "/page/elements.mjs";

const LANES = ["client", "websocket_…", "Messages table", "push_messages", "recipient"];
const EPISODES_SHOWN = 50;
const COPIES_KEPT = 1000;
const [CLIENT, FUNCTION, TABLE, PUSH, RECIPIENT] = LANES.keys();

/* For each step: the lane it starts in, the lane it ends in, and its label. */
const ARROWS = {
  "sent": [CLIENT, FUNCTION, "sendmessage"],
  "stored": [FUNCTION, TABLE, "stored"],
  "duplicate": [FUNCTION, TABLE, "duplicate", "bad"],
  "acknowledged": [FUNCTION, CLIENT, "ack"],
  "triggered": [TABLE, PUSH, "triggered"],
  "fanned_out": [PUSH, TABLE, "copied to"],
  "delivered": [PUSH, RECIPIENT, "delivered"],
  "received": [PUSH, RECIPIENT, "received"],
  "missed": [PUSH, TABLE, "missed, replayed later", "bad"],
  "gone": [PUSH, RECIPIENT, "410 gone", "bad"],
  "closed": [PUSH, RECIPIENT, "closed", "bad"],
  "connected": [CLIENT, FUNCTION, "$connect"],
  "replayed": [PUSH, RECIPIENT, "replayed"],
  "live": [PUSH, RECIPIENT, "connected"],
  "joined": [CLIENT, FUNCTION, "join"],
  "left": [CLIENT, FUNCTION, "leave"],
  "presence_told": [PUSH, RECIPIENT, "presence"],
  "signalled": [FUNCTION, RECIPIENT, "signal"],
  "disconnected": [CLIENT, FUNCTION, "$disconnect"],
  "refused": [FUNCTION, CLIENT, "refused", "bad"],
  "failed": [FUNCTION, CLIENT, "failed", "bad"],
};

/* Steps that become one step with a count when they are repeated. */
const COUNTED = new Set(["refused", "triggered", "presence_told", "signalled"]);

export class Sequence {
  #episodes = new Map();
  #roomMessages = new Map();  // The id of a room's message, by the id of its copies.
  #list = document.getElementById("episodes");
  #waitingForMarker = new Map();

  constructor() {
    document.querySelector(".lanes").append(...LANES.map(lane => element("span", {text: lane})));
  }

  clear() {
    this.#episodes.clear();
    this.#roomMessages.clear();
    this.#waitingForMarker.clear();
    this.#list.replaceChildren();
  }

  /* Add a step that the service reports. */
  happened({step, at, ...about}) {
    if (!Object.hasOwn(ARROWS, step)) return;
    if (about.roomMessageId !== undefined) this.#rememberCopy(about.messageId, about.roomMessageId);
    const episode = this.#episodeOf(step, about);
    if (episode !== undefined) episode.add(step, at, this.#detail(step, about));
    if (step === "connected") this.#waitingForMarker.set(about.player, episode);
    if (step === "live") this.#waitingForMarker.delete(about.player);
  }

  /* Add the step that a player's frame stands for, which only the client can see. */
  frame(event, frame, at, sentAt) {
    if (frame.type === "ack") {
      const episode = this.#message(frame.messageId, frame);
      if (sentAt !== undefined) episode.add("sent", sentAt);
      episode.add("acknowledged", at);
    } else if (frame.type === "message" && !frame.replayed) {
      const reader = frame.roomId === undefined ? undefined : `by ${frame.destinationPlayerId}`;
      this.#message(frame.messageId, frame).add("received", at, reader);
    }
  }

  /* Return more about a step. In a room, it says which member. */
  #detail(step, {code, status, replayed, message, player, members}) {
    if (step === "fanned_out") return `${members} ${members === 1 ? "member" : "members"}`;
    if (this.#roomMessages.has(message)) return `to ${player}`;
    return code ?? status ?? replayed;
  }

  #rememberCopy(id, roomMessageId) {
    this.#roomMessages.set(id, roomMessageId);
    if (this.#roomMessages.size > COPIES_KEPT) {
      this.#roomMessages.delete(this.#roomMessages.keys().next().value);
    }
  }

  #episodeOf(step, about) {
    const {message, messageId, player, connection, destinationPlayerId, room, code, status, route, reason} = about;
    const id = message ?? messageId;
    if (id?.startsWith("marker#")) return this.#waitingForMarker.get(destinationPlayerId);
    if (id?.startsWith("presence#")) return undefined;
    if (id !== undefined) return this.#message(this.#roomMessages.get(id) ?? id);
    if (step === "joined") return this.#episode(`joined ${room} ${connection}`, `Player ${player} joins #${room}`);
    if (step === "left") return this.#episode(`left ${room} ${connection}`, `Player ${player} leaves #${room}`);
    if (step === "presence_told") return this.#episode(`presence ${room}`, `Presence in #${room}`);
    if (step === "signalled") return this.#episode(`signals ${connection}`, `Signals of player ${player}`);
    if (step === "failed") return this.#episode(`failed ${route}`, `Function failed: ${route}`);
    if (step === "refused") {
      const refusal = [code ?? status, reason].filter(Boolean).join(", ");
      return this.#episode(`refused ${refusal} ${connection}`, `Refused: ${refusal}`);
    }
    return this.#episode(`connection ${connection}`, `Player ${player} connects`);
  }

  #message(id, frame) {
    const episode = this.#episode(`message ${id}`, `Message …${id.slice(-6)}`);
    if (frame) {
      const {message, srcPlayerId, destinationPlayerId, roomId} = frame;
      const to = roomId === undefined ? destinationPlayerId : `#${roomId}`;
      episode.name(`“${message.slice(0, 60)}” from ${srcPlayerId} to ${to}`);
    }
    return episode;
  }

  #episode(key, title) {
    if (!this.#episodes.has(key)) {
      const episode = new Episode(title);
      this.#episodes.set(key, episode);
      prepend(this.#list, episode.element, EPISODES_SHOWN);
      if (this.#episodes.size > EPISODES_SHOWN) this.#episodes.delete(this.#episodes.keys().next().value);
    }
    return this.#episodes.get(key);
  }
}

class Episode {
  element = element("li", {}, element("h3"), element("ol"));
  #steps = [];

  constructor(title) {
    this.name(title);
  }

  name(title) {
    this.element.firstElementChild.textContent = title;
  }

  /* Add a step, and redraw the steps in order of time. */
  add(step, at, detail) {
    const place = this.#steps.findLastIndex(each => each.at <= at) + 1;
    const same = COUNTED.has(step) ? this.#steps.slice(Math.max(0, place - 1), place + 1) : [];
    const counted = same.find(each => each.step === step);
    if (counted === undefined) this.#steps.splice(place, 0, {step, at, detail, times: 1});
    else counted.times++;
    const began = this.#steps[0].at;
    this.element.lastElementChild.replaceChildren(...this.#steps.map(each => draw(each, began)));
  }
}

function draw({step, at, detail, times}, began) {
  const [from, to, meaning, manner] = ARROWS[step];
  const label = [meaning, detail, times > 1 && `${times} times`].filter(Boolean).join(" ");
  const direction = from < to ? "right" : "left";
  const text = `${label} +${Math.round(at - began)} ms`;
  const arrow = element("span", {class: ["arrow", direction, manner].join(" "), text});
  arrow.style.gridColumn = `${Math.min(from, to) + 1} / ${Math.max(from, to) + 2}`;
  return element("li", {class: "step"},
    element("span", {class: "visually-hidden", text: `${LANES[from]} to ${LANES[to]}: `}), arrow);
}
