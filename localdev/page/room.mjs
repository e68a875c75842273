/* The room of a player's panel: joins and leaves it, shows its members, and shows who is typing to the player. */

import {element} from "/page/elements.mjs";
import {PING_SECONDS, Roster} from "/page/roster.mjs";
import {TYPING, Typing} from "/page/typing.mjs";

const REDRAW_MS = 500;

export class Room {
  #player;
  #playerId;
  #members;
  #typing;
  #roster = new Roster();
  #typists = new Typing();
  #changed;
  #drawn = "";

  /* `members` is the element of the list, `typing` that of the sentence. `changed` is called with the room's id
     after the player has joined, and with null when the player is no longer a member. */
  constructor(player, playerId, {members, typing, changed}) {
    this.id = null;
    this.#player = player;
    this.#playerId = playerId;
    this.#members = members;
    this.#typing = typing;
    this.#changed = changed;
    setInterval(() => this.#draw(), REDRAW_MS);
    setInterval(() => this.#refresh(), 1000 * PING_SECONDS);
  }

  /* Reject as the player's join() does. */
  async join(roomId) {
    await this.#player.join(roomId, {presence: true});
    this.id = roomId;
    this.#changed(roomId);
    await this.#refresh();
  }

  /* Reject as the player's leave() does. */
  async leave() {
    await this.#player.leave(this.id);
    this.#left();
  }

  /* Follow presence and signals until the player is closed. */
  async follow() {
    await Promise.all([this.#followPresence(), this.#followSignals()]);
  }

  /* Take that the player has typed to another one, or to `#room`. */
  async typed(to) {
    const isToRoom = to.startsWith("#");
    if (to === "" || (isToRoom && to.slice(1) !== this.id) || !this.#typists.isDue(Date.now())) return;
    await (isToRoom ? this.#player.signalToRoom(this.id, TYPING) : this.#player.signal(to, TYPING));
  }

  /* Take that another player has sent a message. */
  heard(srcPlayerId) {
    this.#typists.sent(srcPlayerId);
    this.#roster.heard(srcPlayerId, Date.now());
    this.#draw();
  }

  async #followPresence() {
    for await (const event of this.#player.presenceEvents()) {
      if (event.roomId !== this.id) continue;
      if (event.type === "members") this.#roster.replace(event, Date.now());
      else if (event.playerId === this.#playerId && event.member === false) this.#left();
      else this.#roster.change(event);
      this.#draw();
    }
  }

  async #followSignals() {
    for await (const signal of this.#player.signals()) {
      this.#typists.take(signal, Date.now());
      this.#roster.heard(signal.srcPlayerId, Date.now());
      this.#draw();
    }
  }

  /* Ask for the members, because presence events can be lost, and don't say who still pings. */
  async #refresh() {
    if (this.id === null || document.hidden) return;
    try {
      const members = await this.#player.members(this.id);
      if (members.roomId === this.id) this.#roster.replace(members, Date.now());
      this.#draw();
    } catch (failure) {  // A player who is offline gets the members after the next reconnection.
      if (failure.code === "not_a_member") this.#left();
    }
  }

  #left() {
    this.id = null;
    this.#roster.clear();
    this.#draw();
    this.#changed(null);
  }

  #draw() {
    const now = Date.now(), states = this.id === null ? [] : this.#roster.states(now);
    const typing = this.#typists.sentence(now), drawing = JSON.stringify([states, typing]);
    if (drawing === this.#drawn) return;
    this.#drawn = drawing;
    this.#typing.textContent = typing;
    this.#members.replaceChildren(...states.map(([playerId, state]) =>
      element("li", {class: state}, element("b", {text: playerId}), ` ${state}`)));
  }
}
