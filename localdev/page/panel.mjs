/* One player's panel: a form to connect, a form to send, the received messages, and all frames. */

import {Player} from "/page/player.mjs";
import {clock, element, prepend} from "/page/elements.mjs";

const FRAMES_SHOWN = 200;
const MESSAGES_SHOWN = 200;

export class Panel {
  #root = document.getElementById("player-template").content.firstElementChild.cloneNode(true);
  #isOnline = false;

  /* `to` is the default recipient. `observe` is called with "sent" or "received", the frame, and the time in
     epoch milliseconds. */
  constructor(name, to, {url, isOpen}, observe) {
    this.name = name;
    this.connectionId = null;
    this.player = new Player(url, {
      playerId: name,
      token: isOpen ? undefined : () => this.#form("connect").token.value.trim(),
      observe: (event, about) => this.#observe(event, about, observe),
    });
    this.#build(to, isOpen);
  }

  get element() {
    return this.#root;
  }

  /* Connect, and wait until the connection is live, or until `disconnect` is called. */
  async connect() {
    this.#turn(true);
    const connecting = this.player.connect();
    this.#receive();
    await connecting.catch(() => {});
  }

  disconnect() {
    this.#turn(false);
    this.player.close();
  }

  async send(to, message) {
    this.#find(".failure").textContent = "";
    try {
      await this.player.send(to, message);
    } catch (failure) {
      this.#find(".failure").textContent = `Not sent: ${failure.message}`;
    }
  }

  #build(to, isOpen) {
    const title = this.#find("h2"), id = `player-${this.name}`;
    title.textContent = `Player ${this.name}`;
    title.id = id;
    this.#root.setAttribute("aria-labelledby", id);
    this.#find(".messages").setAttribute("aria-label", `Messages to player ${this.name}`);
    this.#find(".frames").setAttribute("aria-label", `Frames of player ${this.name}, latest first`);
    this.#find(".token").hidden = isOpen;
    const connecting = this.#form("connect"), sending = this.#form("send");
    sending.to.value = to;
    sending.message.value = `Hello, from player ${this.name}!`;
    connecting.addEventListener("submit", event => {
      event.preventDefault();
      if (this.#isOnline) this.disconnect();
      else this.connect();
    });
    sending.addEventListener("submit", event => {
      event.preventDefault();
      this.send(sending.to.value.trim(), sending.message.value);
    });
  }

  async #receive() {
    const list = this.#find(".messages");
    for await (const {srcPlayerId, message, replayed} of this.player) {
      list.append(element("li", {text: `${srcPlayerId}: ${message}`, class: replayed ? "replayed" : ""}));
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
    if (!isConnected) this.connectionId = null;
  }

  #form(name) {
    return this.#find(`form.${name}`);
  }

  #find(selector) {
    return this.#root.querySelector(selector);
  }
}
