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
   retry, longestRetry: the longest pause before the next attempt, at first and after many failures.
   offline: a member who goes offline is reported after so long, unless it is back by then. */
const TIMING = {ping: 300, answer: 30, lifetime: 6900, retry: 1, longestRetry: 30, offline: 10};

/* A longer timer fires at once. */
const LONGEST_TIMER_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/* The shortest time between the beginnings of two connection attempts, whatever the timing. */
const ATTEMPT_INTERVAL_SECONDS = 0.5;

/* The service closes the connection after these errors. */
const CLOSING_ERRORS = new Set(["unauthorized", "unknown_connection"]);

/* How many messages can wait for the program to read them. */
export const UNREAD_MESSAGES = 1000;

/* How many signals and presence events can wait to be read. A further one replaces the oldest. */
export const UNREAD_SIGNALS = 100;
export const UNREAD_PRESENCE = 1000;

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
  ["signal", ["srcPlayerId", "data"]],
  ["members", ["roomId"]],
  ["closing", ["reason"]],
]);

/* Frames that move the position, which is part of the next URL. */
const POSITIONED = new Set(["message", "system"]);

/* Frames that have a roomId only if they are about a room. */
const SOMETIMES_OF_ROOMS = new Set(["message", "signal", "presence"]);

const ROOM_ID = /^[A-Za-z0-9._@|:+!'/=-]{1,64}$/;

const SIGNAL_BYTES = 4096;

/* The ackIds of signals begin with this. The service answers only the signals that it refuses. */
const SIGNAL_PREFIX = "signal-";

/* The most players that one presence query can name. */
const PRESENCE_PLAYERS = 100;

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

/* The service's backend ended the connection, for example to ban the player. `until` is when the player can
   return, in milliseconds since the epoch, or null. The player reconnects only if the program calls connect(). */
export class Kicked extends Error {
  constructor(reason, until) {
    super(reason);
    this.reason = reason;
    this.until = until;
  }
}

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
  #signals = [];
  #presence;
  #watchedRooms = new Set();
  #staleRooms = new Set();
  #isRefreshing = false;
  #returnAt = 0;

  /* Options, where "" and null mean the same as not given:
     playerId: a string.
     token: a JWT, or a function that returns or promises one. The function is called for every attempt.
     after: the messageId to go on from.
     timing: any of TIMING's keys, in seconds. Infinity means as long as possible.
     observe: called with "connecting" or "open" and null, "sent" or "received" and a frame, "lost" and why,
     "waiting" and the seconds until the next attempt, "refused" and the error for a signal, with its ackId.
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
    this.#presence = new PresenceEvents(this.#timing.offline, () => this.#change());
  }

  /* Resolves when the service has said that the player receives, or when too many messages are unread. After
     close() it goes on from where it was, and the first attempt begins at once. After Kicked it waits until the
     time that the service gave. Rejects with Offline when the player is closed, with CannotConnect when no
     attempt can succeed, and with Kicked. */
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

  /* Sends a message to a player. Resolves with the ack. Rejects with Refused, also for a frame over 32 KB, and
     with the error that ended the player. The frame is sent again until it is answered; its clientMessageId, made
     up unless given, stores it once. A message, join or leave isn't overtaken by a later one. */
  async send(to, message, clientMessageId) {
    return this.#send({destinationPlayerId: to}, message, clientMessageId);
  }

  /* Sends a message to all members of a room, which includes this player. Like send(). */
  async sendToRoom(roomId, message, clientMessageId) {
    return this.#send({roomId: checkedRoom(roomId)}, message, clientMessageId);
  }

  /* Resolves with the number of members. Rejects like send(). The player stays a member until it leaves or is
     removed, whether it is connected or not. If `presence` is true, the members are told when this player comes and
     goes, and presenceEvents() gives the room's members after each reconnection. False ends the latter; a leave()
     ends both. */
  async join(roomId, options) {
    const {presence} = known("options", options, ["presence"]);
    const told = isGiven(presence) ? {presence} : {};
    const {members} = await this.#inOrder({action: "join", roomId: checkedRoom(roomId), ...told}, "joined");
    if (presence) this.#watchedRooms.add(roomId);
    else if (isGiven(presence)) this.#watchedRooms.delete(roomId);
    return members;
  }

  /* Leaves a room; again has no effect. Rejects like send(). */
  async leave(roomId) {
    await this.#inOrder({action: "leave", roomId: checkedRoom(roomId)}, "left");
    this.#watchedRooms.delete(roomId);
  }

  /* Resolves with {roomId, members, online}: the members' ids, and of those with a live connection the time at
     which each was last seen, in milliseconds since the epoch. `online` is null if the room is too large for
     presence. Rejects like send(). */
  async members(roomId) {
    return this.#members(this.#session, checkedRoom(roomId));
  }

  /* Resolves with [{playerId, online, lastSeenAt}, …] for 1 to 100 players. Those whose presence this player can't
     see are left out. Rejects like send(). */
  async presence(playerIds) {
    if (!Array.isArray(playerIds) || playerIds.length < 1 || playerIds.length > PRESENCE_PLAYERS) {
      throw new Refused("invalid_frame", `playerIds must be an array of 1 to ${PRESENCE_PLAYERS} player ids`);
    }
    const frame = checkedFrame({action: "presence", playerIds});
    return presences(await this.#untilCarriedOut(this.#session, frame, "presence"));
  }

  /* Sends 1 to 4,096 bytes to a player's live connections, at most once. Resolves with whether the signal was
     sent: false while the player reconnects, because a signal is never sent later or again. Rejects with Refused
     before sending, and with the error that ended the player. If the service refuses it, observe is called with
     "refused". */
  async signal(to, data) {
    if (typeof to !== "string" || to === "") {
      throw new Refused("invalid_frame", "to must be a player's id; signalToRoom signals a room");
    }
    return this.#signal({destinationPlayerId: to}, data);
  }

  /* Sends 1 to 4,096 bytes to the members' live connections, except this one. Like signal(). */
  async signalToRoom(roomId, data) {
    return this.#signal({roomId: checkedRoom(roomId)}, data);
  }

  /* The signals, as {data, srcPlayerId, roomId}, until the player is closed. */
  signals() {
    return this.#each(this.#signals);
  }

  /* Who comes and goes, until the player is closed: {type: "presence", roomId, playerId, member, online,
     lastSeenAt}. A member who goes offline is reported after timing.offline, unless it is back by then. After a
     reconnection also {type: "members", roomId, members, online} of each room that was joined with presence,
     which replaces what was known before. */
  presenceEvents() {
    return this.#each(this.#presence.waiting);
  }

  /* Resolves with the answer to a frame, an error too. Rejects with Refused for a lone surrogate or a frame over
     32 KB, with TypeError unless JSON can write it as an object, and with the error that ended the player.
     The frame is sent again when the connection is lost before the answer, so it must be safe to send twice. */
  async ask(frame) {
    return this.#askUntilAnswered(this.#session, checkedFrame(frame));
  }

  /* The messages that were not seen before, until the player is closed. */
  [Symbol.asyncIterator]() {
    return this.#each(this.#unread, () => this.#nextUnread());
  }

  async *#each(waiting, next = () => waiting.shift()) {
    for (;;) {
      try {
        await this.#until(this.#session, () => waiting.length > 0);
      } catch (ended) {
        if (ended instanceof Offline) return;
        throw ended;
      }
      if (waiting.length > 0) yield next();  // Another iteration may have been sooner.
    }
  }

  // One connection after the other

  async #stayConnected(session) {
    let failures = 0;
    try {
      const left = this.#returnAt - Date.now() / 1000;
      if (left > 0) await this.#pauseFor(session, left);
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
        await this.#pauseFor(session, pause);
      }
    } catch (reason) {
      if (session.ended === null) this.#end(reason, reason.message);
    }
  }

  async #pauseFor(session, seconds) {
    this.#tell("waiting", seconds);
    await this.#rest(session, seconds);
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
    const {type, event, code, ackId, roomId} = frame;
    if (type === "message") this.#keep(frame);
    if (POSITIONED.has(type) && !this.#isFull) this.#moveTo(frame.position ?? frame.messageId);
    if (type === "system" && event === "connected") {
      this.#isGreeted = true;
      this.#change();
      this.#refreshRooms();
    } else if (type === "signal") {
      const {data, srcPlayerId} = frame;
      append(this.#signals, {data, srcPlayerId, roomId}, UNREAD_SIGNALS);
      this.#change();
    } else if (type === "presence" && roomId !== undefined) {
      for (const presence of presences(frame)) this.#presence.add({type, roomId, ...presence});
    } else if (type === "closing") {
      const {reason, until = null} = frame;
      this.#returnAt = (until ?? 0) / 1000;
      this.#end(new Kicked(reason, until), reason);
    } else if (type === "error" && String(ackId).startsWith(SIGNAL_PREFIX)) this.#tell("refused", frame);
    else if (type === "error" && CLOSING_ERRORS.has(code)) this.#endConnection(code);
    else if (type === undefined) {  // API Gateway's own, and it does not say to which frame.
      this.#answerAll({type: "error", retryable: true});
    } else if (type === "error" && ackId === undefined && frame.retryable === false) {
      // The service couldn't read the frame that it refuses. Only one of several can be the refused one.
      this.#answerAll(this.#unanswered.size === 1 ? frame : {type: "error", retryable: true});
    } else if (ackId !== undefined) this.#unanswered.get(ackId)?.(frame);
  }

  #moveTo(position) {
    if (!(this.position > position)) this.position = position;
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

  // Signals and presence

  #signal(destination, data) {
    const ackId = `${SIGNAL_PREFIX}${this.#nextAckId++}`;
    const frame = checkedFrame({action: "signal", ...destination, data: checkedData(data), ackId});
    if (this.#session.ended !== null) throw this.#session.ended;
    if (this.#socket === null) return false;
    this.#write(this.#socket, frame, JSON.stringify(frame));
    return true;
  }

  #refreshRooms() {
    for (const roomId of this.#watchedRooms) this.#staleRooms.add(roomId);
    if (this.#staleRooms.size > 0 && !this.#isRefreshing) this.#refresh(this.#session);
  }

  /* Reports the members of one room after the other. A room that refuses isn't watched any more. */
  async #refresh(session) {
    this.#isRefreshing = true;
    for (const roomId of this.#staleRooms) {
      this.#staleRooms.delete(roomId);
      try {
        this.#presence.replace(await this.#members(session, roomId));
      } catch (failure) {
        if (failure instanceof Refused) this.#watchedRooms.delete(roomId);
        else break;  // The session has ended, and every other call says so.
      }
    }
    this.#isRefreshing = false;
  }

  async #members(session, roomId) {
    const {members, online = null} = await this.#untilCarriedOut(session, {action: "members", roomId}, "members");
    return {type: "members", roomId, members, online};
  }

  // Questions and answers

  async #send(destination, message, clientMessageId) {
    const unique = isGiven(clientMessageId) ? clientMessageId : uniqueId();
    const frame = {action: "sendmessage", ...destination, message, clientMessageId: unique};
    for (const [key, value] of Object.entries(frame)) {
      if (typeof value !== "string") throw new Refused("invalid_frame", `${key} must be a string`);
    }
    return this.#inOrder(checkedFrame(frame), "ack");
  }

  /* Sends a frame after the answers to the earlier ones. */
  async #inOrder(frame, type) {
    const session = this.#session;
    const sent = this.#lastSend.then(() => this.#untilCarriedOut(session, frame, type));
    this.#lastSend = sent.catch(() => {});
    return sent;
  }

  /* Resolves with the answer of a type. Retries; rejects with Refused if the frame will not be carried out. */
  async #untilCarriedOut(session, frame, type) {
    for (let tries = 0; ; tries++) {
      const answer = await this.#askUntilAnswered(session, frame);
      if (answer.type === type) return answer;
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
      this.#write(socket, {...frame, ackId}, text);
    });
  }

  #write(socket, frame, text) {
    this.#tell("sent", frame);
    socket.send(text);
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
    this.#presence.stop();
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

/* The presence events that wait for the program. A member's going offline is added with a delay. */
class PresenceEvents {
  waiting = [];
  #delaySeconds;
  #onChange;
  #delayed = new Map();

  constructor(delaySeconds, onChange) {
    this.#delaySeconds = delaySeconds;
    this.#onChange = onChange;
  }

  /* Adds an event. A member's return drops the delayed events about it, in all rooms. */
  add(presence) {
    const {roomId, playerId, online, member} = presence;
    if (online) this.#drop(delayed => delayed.playerId === playerId);
    else if (member !== false) {
      const key = JSON.stringify([roomId, playerId]);
      if (this.#delayed.has(key)) return;
      const timer = setTimeout(() => {
        this.#delayed.delete(key);
        this.#append(presence);
      }, 1000 * this.#delaySeconds);
      this.#delayed.set(key, {roomId, playerId, timer});
      return;
    }
    this.#drop(delayed => delayed.playerId === playerId && delayed.roomId === roomId);
    this.#append(presence);
  }

  /* Adds a room's members, and drops the delayed events of the room, which are older. */
  replace(members) {
    this.#drop(delayed => delayed.roomId === members.roomId);
    this.#append(members);
  }

  stop() {
    this.#drop(() => true);
  }

  #append(event) {
    append(this.waiting, event, UNREAD_PRESENCE);
    this.#onChange();
  }

  #drop(isOver) {
    for (const [key, delayed] of this.#delayed) {
      if (!isOver(delayed)) continue;
      clearTimeout(delayed.timer);
      this.#delayed.delete(key);
    }
  }
}

/* Appends to an array that holds at most so many. */
function append(waiting, event, most) {
  waiting.push(event);
  if (waiting.length > most) waiting.shift();
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
    && (!POSITIONED.has(type) || [frame.messageId, frame.position ?? "0"].every(isPosition))
    && (!SOMETIMES_OF_ROOMS.has(type) || typeof (frame.roomId ?? "") === "string")
    && (type !== "joined" || Number.isInteger(frame.members))
    && (type !== "members" || (isArrayOf(isText, frame.members) && isObject(frame.online ?? {})))
    && (type !== "presence" || isArrayOf(isPresence, frame.players))
    && (type !== "closing" || Number.isInteger(frame.until ?? 0))
    && ["string", "number"].includes(typeof ackId)
    && typeof retryAfterMs === "number" && retryAfterMs >= 0 && retryAfterMs <= 1000 * LONGEST_TIMER_SECONDS;
}

function isText(value) {
  return typeof value === "string";
}

function isPosition(value) {
  return isText(value) && /^[!-~]+$/.test(value);
}

function isArrayOf(isOne, value) {
  return Array.isArray(value) && value.every(isOne);
}

function isPresence(value) {
  return isObject(value) && isText(value.playerId) && typeof value.online === "boolean"
    && Number.isInteger(value.lastSeenAt ?? 0) && typeof (value.member ?? true) === "boolean";
}

/* Returns the players of a presence frame, without keys that later versions of the service might add. */
function presences({players}) {
  return players.map(({playerId, online, lastSeenAt = null, member}) => (
    {playerId, online, lastSeenAt, ...(member === undefined ? {} : {member})}
  ));
}

/* Returns the id. Throws Refused if no room can have it. */
function checkedRoom(roomId) {
  if (typeof roomId !== "string" || !ROOM_ID.test(roomId)) {
    throw new Refused("invalid_frame", "roomId must be 1 to 64 of A-Z a-z 0-9 . _ - @ | : + ! ' / =");
  }
  return roomId;
}

/* Returns a signal's data. Throws Refused if it isn't a string of 1 to SIGNAL_BYTES bytes. */
function checkedData(data) {
  if (typeof data !== "string" || data === "" || new TextEncoder().encode(data).length > SIGNAL_BYTES) {
    throw new Refused("invalid_frame", `data must be a string of 1 to ${SIGNAL_BYTES} bytes`);
  }
  return data;
}

/* crypto.randomUUID is there only on pages that came by https or from the same machine. */
function uniqueId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}
