/* One player's panel: forms to connect, to join a room and to send, the received messages, and all frames. */

import {Player} from "/page/player.mjs";
import {clock, element, prepend} from "/page/elements.mjs";
import {Room} from "/page/room.mjs";
import {PING_SECONDS} from "/page/roster.mjs";

const FRAMES_SHOWN = 200;
const MESSAGES_SHOWN = 200;

export class Panel {
  #root = document.getElementById("player-template").content.firstElementChild.cloneNode(true);
  #isOnline = false;
  #to;
  #room;

  /* `to` is the default recipient. `observe` is called with "sent" or "received", the frame, and the time in
     epoch milliseconds. */
  constructor(name, to, {url, isOpen}, observe) {
    this.name = name;
    this.connectionId = null;
    this.#to = to;
    this.player = new Player(url, {
      playerId: name,
      timing: {ping: PING_SECONDS},
      token: isOpen ? undefined : () => this.#form("connect").token.value.trim(),
      observe: (event, about) => this.#observe(event, about, observe),
    });
    this.#room = new Room(this.player, name, {
      members: this.#find(".members"),
      typing: this.#find(".typing"),
      changed: roomId => this.#roomChanged(roomId),
    });
    this.#build(isOpen);
  }

  get element() {
    return this.#root;
  }

  /* Connect, and wait until the connection is live, or until `disconnect` is called. */
  async connect() {
    const connecting = this.player.connect();
    if (!this.#isOnline) {
      this.#receive();
      this.#room.follow().catch(() => {});  // The panel's state shows what ended the player.
    }
    this.#turn(true);
    await connecting.catch(() => {});
  }

  disconnect() {
    this.#turn(false);
    this.player.close();
  }

  /* Send a message to a player, or to `#room`. */
  async send(to, message) {
    await this.#attempt("Not sent", () =>
      to.startsWith("#") ? this.player.sendToRoom(to.slice(1), message) : this.player.send(to, message));
  }

  async join(roomId) {
    await this.#attempt("Not joined", () => this.#room.join(roomId));
  }

  /* Show why an action was refused, or that the player went offline. */
  async #attempt(refusal, action) {
    this.#find(".failure").textContent = "";
    try {
      await action();
    } catch (failure) {
      this.#find(".failure").textContent = `${refusal}: ${failure.message}`;
    }
  }

  #build(isOpen) {
    const title = this.#find("h2"), id = `player-${this.name}`;
    title.textContent = `Player ${this.name}`;
    title.id = id;
    this.#root.setAttribute("aria-labelledby", id);
    this.#find(".messages").setAttribute("aria-label", `Messages to player ${this.name}`);
    this.#find(".frames").setAttribute("aria-label", `Frames of player ${this.name}, latest first`);
    this.#find(".token").hidden = isOpen;
    this.#find(".members").setAttribute("aria-label", `Members of player ${this.name}'s room`);
    const connecting = this.#form("connect"), joining = this.#form("room"), sending = this.#form("send");
    sending.to.value = this.#to;
    sending.message.value = `Hello, from player ${this.name}!`;
    connecting.addEventListener("submit", event => {
      event.preventDefault();
      if (this.#isOnline) this.disconnect();
      else this.connect();
    });
    joining.addEventListener("submit", event => {
      event.preventDefault();
      if (this.#room.id === null) this.join(joining.room.value.trim());
      else this.#attempt("Not left", () => this.#room.leave());
    });
    sending.addEventListener("submit", event => {
      event.preventDefault();
      this.send(sending.to.value.trim(), sending.message.value);
    });
    sending.message.addEventListener("input", () => {
      if (this.connectionId !== null) {
        this.#attempt("Not signalled", () => this.#room.typed(sending.to.value.trim()));
      }
    });
  }

  #roomChanged(roomId) {
    this.#form("send").to.value = roomId === null ? this.#to : `#${roomId}`;
    this.#form("room").room.disabled = roomId !== null;
    this.#form("room").querySelector("button").textContent = roomId === null ? "Join" : "Leave";
  }

  async #receive() {
    const list = this.#find(".messages");
    for await (const {srcPlayerId, message, roomId, replayed} of this.player) {
      const room = roomId === undefined ? "" : `#${roomId} `;
      this.#room.heard(srcPlayerId);
      list.append(element("li", {text: `${room}${srcPlayerId}: ${message}`, class: replayed ? "replayed" : ""}));
      if (list.children.length > MESSAGES_SHOWN) list.firstElementChild.remove();
      list.scrollTop = list.scrollHeight;
    }
  }

  #observe(event, about, observe) {
    const at = performance.timeOrigin + performance.now();
    if (event === "connecting") this.#state("connecting…");
    if (event === "open") this.#state("connected, receiving missed messages");
    if (event === "lost") this.#state(about === "closed" ? "offline" : `connection lost: ${about}`);
    if (event === "waiting" && about > 0) this.#state(`offline, reconnecting in ${about.toFixed(1)} s`);
    if (event !== "sent" && event !== "received") return;
    if (about.event === "connected") {
      this.connectionId = about.connectionId;
      this.#state("connected", true);
    }
    this.#show(event, about, at);
    observe(event, about, at);
  }

  #show(event, frame, at) {
    const kind = frame.action ?? frame.event ?? frame.code ?? frame.type ?? "from API Gateway";
    const item = element("li", {class: frame.type === "error" ? "error" : event},
      element("time", {text: clock(at)}),
      element("b", {text: ` ${event === "sent" ? "↑ sent" : "↓ received"} ${kind} `}),
      element("span", {text: JSON.stringify(frame)}));
    prepend(this.#find(".frames"), item, FRAMES_SHOWN);
  }

  #turn(isOnline) {
    this.#isOnline = isOnline;
    this.#form("connect").querySelector("button").textContent = isOnline ? "Disconnect" : "Reconnect";
  }

  #state(text, isConnected = false) {
    this.#find(".state").textContent = text;
    this.#find(".state").classList.toggle("connected", isConnected);
    this.#find(".members").classList.toggle("unknown", !isConnected);
    if (!isConnected) this.connectionId = null;
  }

  #form(name) {
    return this.#find(`form.${name}`);
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }
}
