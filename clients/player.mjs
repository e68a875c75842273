/* A player's connection, kept: it connects again by itself, loses nothing, and shows nothing twice.

     const player = new Player("wss://…/dev/", {playerId: "1"});
     await player.connect();
     await player.send("2", "Hello!");
     for await (const message of player) console.log(message.srcPlayerId, message.message);

   For browsers, and for Node from version 22 on (20 with --experimental-websocket). It needs nothing else:
   copy the file. docs/protocol.md has the frames. */

/* In seconds. API Gateway ends a connection after 10 minutes without a frame, and after two hours.
   ping: after so long without a frame. answer: how long any answer may take, a handshake too.
   lifetime: after so long, or up to a tenth sooner, it connects anew.
   retry, longestRetry: at most so long before it connects again, at first and in the end. */
const TIMING = {ping: 120, answer: 30, lifetime: 6900, retry: 1, longestRetry: 30};

const AFTER_WHICH_IT_IS_CLOSED = new Set(["unauthorized", "unknown_connection"]);

/* API Gateway takes frames of 32 KB, and no script can say where a message is cut into frames. */
const FRAME_BYTES = 32 * 1024;

/* How many messageIds are remembered, some 10 MB: a replay can begin long before the position. */
const SEEN_MESSAGES = 100_000;

/* The service will not carry out a frame, however often it is sent. `code` is its own. */
export class Refused extends Error {
  constructor(code, detail) {
    super(`${code}: ${detail}`);
    this.code = code;
  }
}

/* The player was closed. */
export class Offline extends Error {}

/* The connection is gone, or as good as gone. What was not answered is sent again over the next one. */
const LOST = Symbol("lost");

export class Player {
  #baseUrl;
  #playerId;
  #token;
  #timing;
  #observe;
  #keeping = null;
  #socket = null;
  #endConnection = () => {};
  #wake = () => {};
  #isGreeted = false;
  #hasTried = false;
  #waiting = [];
  #lastSend = Promise.resolve();
  #nextAckId = 1;
  #unanswered = new Map();
  #unread = [];
  #seen = new Set();

  /* token: a JWT, or a function that returns or promises one, asked at every connect.
     after: the position to go on from.
     observe: called with "connecting" or "open" and null, "sent" or "received" and a frame, "lost" and why,
     "waiting" and the seconds until it connects again.
     No page is told why a handshake failed: one that was refused is tried again like any other. */
  constructor(url, {playerId, token, after = null, timing = {}, observe = () => {}} = {}) {
    this.#baseUrl = new URL(url);
    this.#playerId = playerId;
    this.#token = token;
    this.#timing = {...TIMING, ...timing};
    this.#observe = observe;
    this.position = after;
  }

  /* Until the service has said that the player receives. After close() it goes on from where it was. */
  async connect() {
    if (this.#keeping === null) this.#stayConnected();
    await this.#until(() => this.#isGreeted);
  }

  /* Go offline. Sends that wait for their answer end with Offline, and so may or may not be stored. */
  close() {
    this.#keeping = null;
    this.#isGreeted = false;
    this.#endConnection("closed");
    this.#wake();
    this.#change();
  }

  /* Promises the ack; rejects with Refused, also for what is over 32 KB, or Offline. Sent again until it is
     answered; its clientMessageId, made up unless given, stores it once. One is sent after the other, so they
     arrive in the order in which they were asked for. */
  send(to, message, clientMessageId = uniqueId()) {
    const frame = {action: "sendmessage", destinationPlayerId: to, message, clientMessageId};
    const sent = this.#lastSend.then(() => this.#sendUntilAnswered(frame));
    this.#lastSend = sent.catch(() => {});
    return sent;
  }

  /* Promises the answer to a frame, an error too; rejects with Offline. Asked again when the connection is
     lost before the answer, so for what can be asked twice. */
  async ask(frame) {
    for (;;) {
      await this.#until(() => this.#socket !== null);
      const answer = await this.#ask(this.#socket, frame);
      if (answer !== LOST) return answer;
    }
  }

  /* The messages that were not seen before, until the player is closed. */
  async *[Symbol.asyncIterator]() {
    for (;;) {
      try {
        await this.#until(() => this.#unread.length > 0);
      } catch (ended) {
        if (ended instanceof Offline) return;
        throw ended;
      }
      if (this.#unread.length > 0) yield this.#unread.shift();  // Another iteration may have been sooner.
    }
  }

  // One connection after the other

  async #stayConnected() {
    const keeping = this.#keeping = {};
    for (let failures = 0; ; ) {
      this.#tell("connecting", null);
      const why = await this.#converse(keeping);
      if (this.#keeping !== keeping) break;
      failures = this.#isGreeted ? 0 : failures + 1;
      this.#isGreeted = false;
      const pause = why === "planned" ? 0 : this.#pause(failures);
      this.#tell("lost", why);
      this.#tell("waiting", pause);
      await this.#rest(pause);
      if (this.#keeping !== keeping) break;
    }
    if (this.#keeping === null) this.#tell("lost", "closed");
  }

  /* Over one connection, until it is gone: why. */
  async #converse(keeping) {
    let socket;
    try {
      const [url, protocols] = await this.#handshake();
      if (this.#keeping !== keeping) return "closed";
      socket = new WebSocket(url, protocols);
    } catch (failure) {  // No token could be had, or it is none.
      return `no token: ${failure?.message ?? failure}`;
    }
    return new Promise(over => this.#listen(socket, over));
  }

  /* Whoever has no position after a first try asks for everything: what that try was sent may have been
     lost on the way, and nobody but its client knows. */
  async #handshake() {
    const url = new URL(this.#baseUrl);
    const after = this.position ?? (this.#hasTried ? "0" : null);
    this.#hasTried = true;
    if (this.#playerId != null) url.searchParams.set("playerId", this.#playerId);
    if (after !== null) url.searchParams.set("after", after);
    const token = typeof this.#token === "function" ? await this.#within(this.#token()) : this.#token;
    return [url, token ? ["player", `bearer.${token}`] : []];
  }

  /* Until the planned end. When nothing has come for long, ask whether anybody is there. */
  #listen(socket, over) {
    const {ping, answer, lifetime} = this.#timing;
    let due, planned;
    const end = why => {
      clearTimeout(due);
      clearTimeout(planned);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
      this.#endConnection = () => {};
      this.#lose();
      over(why);
    };
    const expect = (seconds, otherwise) => {
      clearTimeout(due);
      due = setTimeout(otherwise, 1000 * seconds);
    };
    const noAnswer = () => end("no answer");
    const ask = () => {
      this.#tell("sent", {action: "ping"});
      socket.send('{"action": "ping"}');
      expect(answer, noAnswer);
    };
    this.#endConnection = end;
    expect(answer, noAnswer);
    socket.onopen = () => {
      expect(ping, ask);
      planned = setTimeout(() => end("planned"), 1000 * lifetime * (0.9 + 0.1 * Math.random()));
      this.#socket = socket;
      this.#tell("open", null);
      this.#change();
    };
    socket.onmessage = ({data}) => {
      expect(ping, ask);
      this.#take(JSON.parse(data));
    };
    socket.onclose = ({code, reason}) => end([`closed with ${code}`, reason].filter(Boolean).join(", "));
  }

  #take(frame) {
    this.#tell("received", frame);
    const {type, event, code, ackId, messageId} = frame;
    if ((type === "message" || type === "system") && !(this.position > messageId)) this.position = messageId;
    if (type === "message") this.#keep(frame);
    else if (type === "system" && event === "connected") {
      this.#isGreeted = true;
      this.#change();
    } else if (type === "error" && AFTER_WHICH_IT_IS_CLOSED.has(code)) this.#endConnection(code);
    else if (type === undefined) {  // API Gateway's own, and it does not say to which frame.
      for (const answered of this.#unanswered.values()) answered({type: "error", retryable: true});
    } else if (ackId !== undefined) this.#unanswered.get(ackId)?.(frame);
  }

  #keep(message) {
    if (this.#seen.has(message.messageId)) return;
    this.#seen.add(message.messageId);
    if (this.#seen.size > SEEN_MESSAGES) this.#seen.delete(this.#seen.values().next().value);
    this.#unread.push(message);
    this.#change();
  }

  // Questions and answers

  async #sendUntilAnswered(frame) {
    for (let tries = 0; ; tries++) {
      const answer = await this.ask(frame);
      if (answer.type === "ack") return answer;
      if (answer.retryable === false) throw new Refused(answer.code, answer.detail);
      await sleep((answer.retryAfterMs ?? 0) / 1000 + this.#pause(tries));
    }
  }

  /* Over one connection: LOST when there will be no answer. */
  #ask(socket, frame) {
    const ackId = this.#nextAckId++;
    const text = JSON.stringify({...frame, ackId});
    if (new TextEncoder().encode(text).length > FRAME_BYTES) {
      throw new Refused("too_large", `a message and its envelope may take ${FRAME_BYTES} bytes from here`);
    }
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
    for (const answered of this.#unanswered.values()) answered(LOST);
  }

  /* What watches must not disturb. */
  #tell(event, about) {
    try {
      this.#observe(event, about);
    } catch (failure) {
      console.error(failure);
    }
  }

  // Waiting

  /* Whoever waits looks again. */
  #change() {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const look of waiting) look();
  }

  /* So long, or until it is closed. */
  #rest(seconds) {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, 1000 * seconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /* What is promised within the time of an answer. */
  async #within(promised) {
    let timer;
    const overdue = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("it took too long")), 1000 * this.#timing.answer);
    });
    return Promise.race([promised, overdue]).finally(() => clearTimeout(timer));
  }

  async #until(condition) {
    while (!condition()) {
      if (this.#keeping === null) throw new Offline("the player is not connected");
      await new Promise(look => this.#waiting.push(look));
    }
  }

  /* Seconds, by chance: many that were cut off together must not come back together. */
  #pause(failures) {
    const {retry, longestRetry} = this.#timing;
    return Math.random() * Math.min(longestRetry, retry * 2 ** Math.min(failures, 10));
  }
}

function sleep(seconds) {
  return new Promise(wake => setTimeout(wake, 1000 * seconds));
}

/* crypto.randomUUID is there only on pages that came by https or from the same machine. */
function uniqueId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}
