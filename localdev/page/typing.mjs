/* Who is typing, by signals: they are not stored, and a lost one is replaced by the next. */

export const TYPING = JSON.stringify({typing: true});
const INTERVAL_MS = 3000;
const SHOWN_MS = 5000;

export class Typing {
  #toldAt = -Infinity;
  #until = new Map();

  /* Return whether it is time to send the signal again. */
  isDue(now) {
    if (now - this.#toldAt < INTERVAL_MS) return false;
    this.#toldAt = now;
    return true;
  }

  /* Take another player's signal. Other programs can send any data. */
  take({srcPlayerId, data}, now) {
    if (data === TYPING || parsed(data)?.typing === true) this.#until.set(srcPlayerId, now + SHOWN_MS);
  }

  /* Take that the player has sent a message. */
  sent(playerId) {
    this.#until.delete(playerId);
  }

  /* Return who is typing, as a sentence. */
  sentence(now) {
    const players = [...this.#until].filter(([, until]) => now < until).map(([playerId]) => playerId);
    if (players.length === 0) return "";
    return `${players.join(" and ")} ${players.length === 1 ? "is" : "are"} typing …`;
  }
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
