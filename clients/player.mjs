/* A player's connection, kept: it connects again by itself, loses nothing, and shows nothing twice.

     const player = new Player("wss://…/dev/", {playerId: "1"});
     await player.connect();
     await player.send("2", "Hello!");
     for await (const message of player) console.log(message.srcPlayerId, message.message);

   For browsers and Node 22 or newer. Node 20 needs --experimental-websocket, or npm's `ws` assigned to
   globalThis.WebSocket. Copy this file: it imports nothing. docs/protocol.md has the frames. */

/* In seconds. API Gateway ends a connection after 10 minutes without a frame, and after two hours.
   ping: the client pings after so long without a frame. answer: the timeout of any answer and of a handshake.
   lifetime: the client replaces its connection after so long, or up to a tenth sooner.
   retry, longestRetry: the longest pause before the next attempt, at first and after many failures. */
const TIMING = {ping: 300, answer: 30, lifetime: 6900, retry: 1, longestRetry: 30};

/* A longer timer fires at once. */
const LONGEST_TIMER_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/* The shortest time between the beginnings of two connection attempts, whatever the timing. */
const ATTEMPT_INTERVAL_SECONDS = 0.5;

/* The service closes the connection after these errors. */
const CLOSING_ERRORS = new Set(["unauthorized", "unknown_connection"]);

/* How many messages can wait for the program to read them. */
export const UNREAD_MESSAGES = 1000;

const TOO_MANY_UNREAD = "too many unread messages";

const OPTIONS = ["playerId", "token", "after", "timing", "observe"];

/* A browser can only send a token as part of a subprotocol's name, and these characters are legal there. */
const SUBPROTOCOL = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/* The keys that must hold a string, by the type of the service's frame. */
const STRINGS = new Map([
  ["message", ["messageId", "srcPlayerId", "message"]],
  ["system", ["messageId", "event"]],
  ["error", ["code", "detail"]],
  ["ack", ["messageId"]],
]);

/* Frames whose messageId becomes part of the next URL. */
const POSITIONED = new Set(["message", "system"]);

const LONE_SURROGATE = /[\ud800-\udfff]/u;

/* API Gateway takes frames of 32 KB, and no script can say where a message is cut into frames. */
const FRAME_BYTES = 32 * 1024;

/* A connection that wasn't greeted is pinged so soon: the service closes one that should be live by then. */
const GREETING_SECONDS = 60;

/* How many messageIds are remembered, some 10 MB: a replay can begin long before the position. */
const SEEN_MESSAGES = 100_000;

/* The service will not carry out a frame, however often it is sent. `code` is its own. */
export class Refused extends Error {
  constructor(code, detail) {
    super(`${code}: ${detail}`);
    this.code = code;
  }
}

/* The URL, the token or the surroundings are wrong, so no attempt can succeed. The message says what is right. */
export class CannotConnect extends Error {}

/* The player was closed. */
export class Offline extends Error {}

/* The connection is gone, or as good as gone. What was not answered is sent again over the next one. */
const LOST = Symbol("lost");

export class Player {
  #url;
  #playerId;
  #token;
  #timing;
  #observe;
  /* From a connect() to what ended it. What begins in one session doesn't go on in the next. */
  #session = {ended: new Offline("the player is not connected")};
  #attemptedAt = -Infinity;
  #socket = null;
  #endConnection = () => {};
  #isGreeted = false;
  #hasTried = false;
  #isFull = false;
  #hasAsked = false;
  #asking = 0;
  #waiting = [];
  #lastSend = Promise.resolve();
  #nextAckId = 1;
  #unanswered = new Map();
  #unread = [];
  #seen = new Set();

  /* Options, where "" and null mean the same as not given:
     playerId: a string.
     token: a JWT, or a function that returns or promises one. The function is called for every attempt.
     after: the messageId to go on from.
     timing: any of TIMING's keys, in seconds. Infinity means as long as possible.
     observe: called with "connecting" or "open" and null, "sent" or "received" and a frame, "lost" and why,
     "waiting" and the seconds until the next attempt.
     Throws TypeError or RangeError for an unknown or unusable option.
     At most UNREAD_MESSAGES wait to be read. The player drops further ones and goes offline, but keeps a
     connection that it has sent or asked over, for the replies. It reconnects when half has been read, or to
     send, and the service then replays the dropped messages.
     Browsers don't say why a handshake was refused, so a refused handshake is retried like any other failure. */
  constructor(url, options) {
    const {playerId, token, after, timing, observe} = known("options", options, OPTIONS);
    this.#url = url;
    this.#playerId = optionalText("playerId", Number.isInteger(playerId) ? String(playerId) : playerId);
    this.#token = typeof token === "function" ? token : optionalText("token", token, " or a function");
    this.#timing = checkedTiming(timing);
    this.#observe = isGiven(observe) ? observe : () => {};
    if (typeof this.#observe !== "function") throw new TypeError("observe must be a function");
    this.position = optionalText("after", after);
  }

  /* Resolves when the service has said that the player receives, or when too many messages are unread. After
     close() it goes on from where it was, and the first attempt begins at once. Rejects with Offline when the
     player is closed, and with CannotConnect when no attempt can succeed. */
  async connect() {
    if (this.#session.ended !== null) {
      this.#session = {ended: null};
      this.#isFull = false;
      this.#stayConnected(this.#session);
    }
    await this.#until(this.#session, () => this.#isGreeted || this.#isFull);
  }

  /* Go offline. Sends that wait for their answer reject with Offline; they might have been stored. */
  close() {
    this.#end(new Offline("the player was closed"), "closed");
  }

  /* Resolves with the ack. Rejects with Refused, also for a frame over 32 KB, and with the error that ended the
     player. The frame is sent again until it is answered; its clientMessageId, made up unless given, stores it
     once. A send isn't overtaken by a later one. */
  async send(to, message, clientMessageId) {
    const frame = {
      action: "sendmessage",
      destinationPlayerId: to,
      message,
      clientMessageId: isGiven(clientMessageId) ? clientMessageId : uniqueId(),
    };
    for (const [key, value] of Object.entries(frame)) {
      if (typeof value !== "string") throw new Refused("invalid_frame", `${key} must be a string`);
    }
    const sent = this.#sendUntilAnswered(this.#session, checkedFrame(frame), this.#lastSend);
    this.#lastSend = sent.catch(() => {});
    return sent;
  }

  /* Resolves with the answer to a frame, an error too. Rejects with Refused for a lone surrogate or a frame over
     32 KB, with TypeError unless JSON can write it as an object, and with the error that ended the player.
     The frame is sent again when the connection is lost before the answer, so it must be safe to send twice. */
  async ask(frame) {
    return this.#askUntilAnswered(this.#session, checkedFrame(frame));
  }

  /* The messages that were not seen before, until the player is closed. */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      try {
        await this.#until(this.#session, () => this.#unread.length > 0);
      } catch (ended) {
        if (ended instanceof Offline) return;
        throw ended;
      }
      if (this.#unread.length > 0) yield this.#nextUnread();  // Another iteration may have been sooner.
    }
  }

  // One connection after the other

  async #stayConnected(session) {
    let failures = 0;
    try {
      while (session.ended === null) {
        this.#tell("connecting", null);
        const why = await this.#converse(session);
        if (session.ended !== null) return;
        failures = this.#isGreeted ? 0 : failures + 1;
        this.#isGreeted = false;
        const isMeant = why === "planned" || why === TOO_MANY_UNREAD;
        const pause = Math.max(this.#intervalLeft(), isMeant ? 0 : this.#pause(failures));
        this.#tell("lost", why);
        if (this.#isFull) {
          await this.#until(session, () => this.#unread.length <= UNREAD_MESSAGES / 2 || this.#asking > 0);
        }
        this.#tell("waiting", pause);
        await this.#rest(session, pause);
      }
    } catch (reason) {
      if (session.ended === null) this.#end(reason, reason.message);
    }
  }

  /* Holds one connection. Resolves with why it ended; rejects when no other attempt could succeed either. */
  async #converse(session) {
    this.#attemptedAt = now();
    this.#isFull = this.#hasAsked = false;
    const url = this.#address();
    if (typeof WebSocket !== "function") {
      throw new CannotConnect("there is no WebSocket here: use Node 22 or newer, or Node 20 with " +
        "--experimental-websocket, or assign npm's ws to globalThis.WebSocket");
    }
    let protocols;
    try {
      protocols = subprotocols(await this.#currentToken());
    } catch (failure) {
      if (typeof this.#token !== "function") throw failure;  // Only a function can return a better one next time.
      return `no token: ${reasonOf(failure)}`;
    }
    if (session.ended !== null) return "closed";
    this.#attemptedAt = now();
    const socket = openSocket(url, protocols);
    this.#hasTried = true;
    return new Promise(over => this.#listen(socket, over));
  }

  /* Returns the URL to connect to. Without a position, every attempt after the first asks for everything,
     because messages sent over an earlier connection may have been lost on the way. Throws CannotConnect. */
  #address() {
    let url;
    try {
      url = new URL(this.#url);
    } catch {
      throw new CannotConnect("the URL must be a WebSocket's, such as wss://…/dev/");
    }
    if (!["ws:", "wss:"].includes(url.protocol) || url.href.includes("#")) {
      throw new CannotConnect("the URL must begin with ws:// or wss:// and have no fragment");
    }
    const after = this.position ?? (this.#hasTried ? "0" : null);
    if (this.#playerId !== null) url.searchParams.set("playerId", this.#playerId);
    if (after !== null) url.searchParams.set("after", after);
    return url;
  }

  async #currentToken() {
    return typeof this.#token === "function" ? this.#within(this.#token()) : this.#token;
  }

  /* Until the planned end. When nothing has come for long, ask whether anybody is there. */
  #listen(socket, over) {
    const {ping, answer, lifetime} = this.#timing;
    let due, planned;
    const end = why => {
      clearTimeout(due);
      clearTimeout(planned);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => {};  // npm's ws reports an error when it is closed, and Node exits if nothing listens.
      socket.close();
      this.#endConnection = () => {};
      this.#lose();
      over(why);
    };
    const expect = (seconds, otherwise) => {
      clearTimeout(due);
      due = setTimeout(otherwise, 1000 * seconds);
    };
    const expectNext = () => expect(this.#isGreeted ? ping : Math.min(ping, GREETING_SECONDS), ask);
    const noAnswer = () => end("no answer");
    const ask = () => {
      expect(answer, noAnswer);
      this.#tell("sent", {action: "ping"});
      socket.send('{"action": "ping"}');
    };
    this.#endConnection = end;
    expect(answer, noAnswer);
    socket.onopen = () => {
      expectNext();
      planned = setTimeout(() => end("planned"), 1000 * lifetime * (0.9 + 0.1 * Math.random()));
      this.#socket = socket;
      this.#tell("open", null);
      this.#change();
    };
    socket.onmessage = ({data}) => {
      const frame = parsedFrame(data);
      if (frame === null) end("a malformed frame");
      else this.#take(frame);
      if (socket.onmessage !== null) expectNext();
    };
    socket.onclose = ({code, reason}) => end([`closed with ${code}`, reason].filter(Boolean).join(", "));
    socket.onerror = ({message}) => end(message || "the connection failed");  // Node fires no close after it.
  }

  #take(frame) {
    this.#tell("received", frame);
    const {type, event, code, ackId, messageId} = frame;
    if (type === "message") this.#keep(frame);
    if (POSITIONED.has(type) && !this.#isFull && !(this.position > messageId)) this.position = messageId;
    if (type === "system" && event === "connected") {
      this.#isGreeted = true;
      this.#change();
    } else if (type === "error" && CLOSING_ERRORS.has(code)) this.#endConnection(code);
    else if (type === undefined) {  // API Gateway's own, and it does not say to which frame.
      this.#answerAll({type: "error", retryable: true});
    } else if (type === "error" && ackId === undefined && frame.retryable === false) {
      // The service couldn't read the frame that it refuses. Only one of several can be the refused one.
      this.#answerAll(this.#unanswered.size === 1 ? frame : {type: "error", retryable: true});
    } else if (ackId !== undefined) this.#unanswered.get(ackId)?.(frame);
  }

  #keep(message) {
    if (this.#seen.has(message.messageId)) return;
    if (this.#isFull || this.#unread.length >= UNREAD_MESSAGES) {
      this.#isFull = true;  // From here on, over this connection, the position stands still.
      this.#change();
      if (!this.#hasAsked && this.#asking === 0) this.#endConnection(TOO_MANY_UNREAD);
      return;
    }
    this.#seen.add(message.messageId);
    if (this.#seen.size > SEEN_MESSAGES) this.#seen.delete(this.#seen.values().next().value);
    this.#unread.push(message);
    this.#change();
  }

  /* Returns the next message. Once half has been read, the player reconnects to get the dropped messages. */
  #nextUnread() {
    const message = this.#unread.shift();
    if (this.#isFull && this.#unread.length === UNREAD_MESSAGES / 2) {
      this.#change();
      this.#endConnection("planned");
    }
    return message;
  }

  // Questions and answers

  async #sendUntilAnswered(session, frame, earlierSend) {
    await earlierSend;
    for (let tries = 0; ; tries++) {
      const answer = await this.#askUntilAnswered(session, frame);
      if (answer.type === "ack") return answer;
      if (answer.retryable === false) throw new Refused(answer.code, answer.detail);
      await this.#rest(session, (answer.retryAfterMs ?? 0) / 1000 + this.#pause(tries));
    }
  }

  async #askUntilAnswered(session, frame) {
    this.#asking++;
    this.#change();
    try {
      for (;;) {
        await this.#until(session, () => session.ended === null && this.#socket !== null);
        const answer = this.#socket === null ? LOST : await this.#ask(this.#socket, frame);  // It was just there.
        if (answer !== LOST) return answer;
      }
    } finally {
      this.#asking--;
    }
  }

  /* Over one connection: LOST when there will be no answer. */
  #ask(socket, frame) {
    const ackId = this.#nextAckId++;
    const text = JSON.stringify({...frame, ackId});
    if (new TextEncoder().encode(text).length > FRAME_BYTES) {
      throw new Refused("too_large", `a message and its envelope may take ${FRAME_BYTES} bytes from here`);
    }
    this.#hasAsked = true;
    return new Promise(resolve => {
      const overdue = setTimeout(() => this.#endConnection("no answer"), 1000 * this.#timing.answer);
      this.#unanswered.set(ackId, answer => {
        clearTimeout(overdue);
        this.#unanswered.delete(ackId);
        resolve(answer);
      });
      this.#tell("sent", {...frame, ackId});
      socket.send(text);
    });
  }

  #lose() {
    this.#socket = null;
    this.#answerAll(LOST);
  }

  #answerAll(answer) {
    for (const answered of this.#unanswered.values()) answered(answer);
  }

  /* What watches must not disturb, at once or later. */
  #tell(event, about) {
    new Promise(told => told(this.#observe(event, about))).catch(failure => console.error(failure));
  }

  // Waiting

  /* Makes every waiter look at its condition again. */
  #change() {
    for (const {look} of this.#takeWaiting()) look();
  }

  /* Ends the session, unless it has ended: every waiter rejects with the reason. */
  #end(reason, why) {
    if (this.#session.ended !== null) return;
    this.#session.ended = reason;
    this.#isGreeted = false;
    this.#endConnection(why);
    for (const {end} of this.#takeWaiting()) end(reason);
    this.#tell("lost", why);
  }

  #takeWaiting() {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /* Resolves after so many seconds, or later. Rejects when the session ends. */
  async #rest(session, seconds) {
    const end = now() + seconds;
    for (let left = seconds; left > 0; left = end - now()) {
      const timer = setTimeout(() => this.#change(), 1000 * Math.min(left, LONGEST_TIMER_SECONDS));
      try {
        await this.#nextChange(session);
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /* What is promised within the time of an answer. */
  async #within(promised) {
    let timer;
    const overdue = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("it took too long")), 1000 * this.#timing.answer);
    });
    return Promise.race([promised, overdue]).finally(() => clearTimeout(timer));
  }

  async #until(session, condition) {
    while (!condition()) await this.#nextChange(session);
  }

  async #nextChange(session) {
    if (session.ended !== null) throw session.ended;
    await new Promise((look, end) => this.#waiting.push({look, end}));
  }

  #intervalLeft() {
    return Math.max(0, this.#attemptedAt + ATTEMPT_INTERVAL_SECONDS - now());
  }

  /* Seconds, by chance: many that were cut off together must not come back together. */
  #pause(failures) {
    const {retry, longestRetry} = this.#timing;
    return Math.random() * Math.min(longestRetry, retry * 2 ** Math.min(failures, 10));
  }
}

/* Returns seconds by a monotonic clock. */
function now() {
  return performance.now() / 1000;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isGiven(value) {
  return value !== undefined && value !== null && value !== "";
}

/* Returns the object that was given, or an empty one. Throws TypeError for a key that isn't known. */
function known(name, given, keys) {
  if (!isGiven(given)) return {};
  if (!isObject(given)) throw new TypeError(`${name} must be an object with any of ${keys.join(", ")}`);
  for (const key of Object.keys(given)) {
    if (!keys.includes(key)) throw new TypeError(`unknown key ${key} in ${name}: use any of ${keys.join(", ")}`);
  }
  return given;
}

/* Returns the text, or null if none is given. */
function optionalText(name, value, orElse = "") {
  if (!isGiven(value)) return null;
  if (typeof value !== "string") throw new TypeError(`${name} must be a string${orElse}`);
  if (LONE_SURROGATE.test(value)) throw new TypeError(`${name} must not have a lone surrogate`);
  return value;
}

function checkedTiming(given) {
  const timing = {...TIMING};
  for (const [name, seconds] of Object.entries(known("timing", given, Object.keys(TIMING)))) {
    if (seconds === undefined) continue;
    if (typeof seconds !== "number") throw new TypeError(`timing.${name} must be a number of seconds`);
    if (!(seconds > 0)) throw new RangeError(`timing.${name} must be more than 0 seconds`);
    timing[name] = Math.min(seconds, LONGEST_TIMER_SECONDS);
  }
  return timing;
}

/* Returns the subprotocols that carry a token. Throws CannotConnect, without the token's text. */
function subprotocols(token) {
  if (!isGiven(token)) return [];
  if (typeof token !== "string" || !SUBPROTOCOL.test(token)) {
    throw new CannotConnect("a token must be a string of A-Z a-z 0-9 ! # $ % & ' * + - . ^ _ ` | ~, as a JWT is");
  }
  return ["player", `bearer.${token}`];
}

/* Returns a WebSocket. Throws CannotConnect, without the URL's text: its query might hold a token. */
function openSocket(url, protocols) {
  try {
    return new WebSocket(url, protocols);
  } catch (failure) {
    const name = failure?.name ?? "an error";
    throw new CannotConnect(`the WebSocket was refused here with ${name}: a page from https:// needs a wss:// URL`);
  }
}

/* Returns the reason that a token function gave for its failure. */
function reasonOf(failure) {
  const reason = failure?.message ?? failure;
  return typeof reason === "string" ? reason : "no reason given";
}

/* Returns a copy of a frame, as JSON writes it. Throws Refused for a lone surrogate and TypeError for no object. */
function checkedFrame(frame) {
  const text = JSON.stringify(frame, refuseLoneSurrogates);
  const copy = text === undefined ? null : JSON.parse(text);
  if (!isObject(copy)) throw new TypeError("a frame must be an object that JSON can write");
  return copy;
}

function refuseLoneSurrogates(key, value) {
  if (LONE_SURROGATE.test(key)) throw new Refused("invalid_frame", "a key has a lone surrogate");
  if (typeof value === "string" && LONE_SURROGATE.test(value)) {
    throw new Refused("invalid_frame", `${key} has a lone surrogate`);
  }
  return value;
}

/* Returns the frame, or null if the client can't work with it. */
function parsedFrame(text) {
  try {
    const frame = JSON.parse(text);
    return isObject(frame) && isWellFormed(frame) ? frame : null;
  } catch {
    return null;
  }
}

/* Returns whether the keys that the client reads have values that it can work with. */
function isWellFormed({type, ackId = 0, retryAfterMs = 0, ...frame}) {
  return ["undefined", "string"].includes(typeof type)
    && (STRINGS.get(type) ?? []).every(key => typeof frame[key] === "string")
    && (!POSITIONED.has(type) || /^[!-~]+$/.test(frame.messageId))
    && ["string", "number"].includes(typeof ackId)
    && typeof retryAfterMs === "number" && retryAfterMs >= 0 && retryAfterMs <= 1000 * LONGEST_TIMER_SECONDS;
}

/* crypto.randomUUID is there only on pages that came by https or from the same machine. */
function uniqueId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}
