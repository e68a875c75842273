/* Who is in a room, and who is online there. It has no elements, and times are epoch milliseconds. */

export const PING_SECONDS = 30;
const AWAY_MS = 2 * 1000 * PING_SECONDS;  // A client that still runs has pinged by then.
const OFFLINE_MS = 10_000;  // A player who reconnects is back by then.

export class Roster {
  #members = new Map();

  /* Take a complete list of the members, and when those that are online were last seen. */
  replace({members, online}, now) {
    const before = this.#members;
    this.#members = new Map(members.map(playerId => {
      if (Object.hasOwn(online ?? {}, playerId)) return [playerId, {lastSeenAt: online[playerId], offlineAt: null}];
      const {lastSeenAt = 0, offlineAt = -Infinity} = before.get(playerId) ?? {};
      return [playerId, {lastSeenAt, offlineAt: offlineAt ?? now}];
    }));
  }

  /* Take one member's change. The client has already waited before it reports that a member is offline. */
  change({playerId, member, online, lastSeenAt}) {
    if (member === false) this.#members.delete(playerId);
    else this.#members.set(playerId, {lastSeenAt: lastSeenAt ?? 0, offlineAt: online ? null : -Infinity});
  }

  /* Take that a member was just heard of, such as by a message. */
  heard(playerId, now) {
    const member = this.#members.get(playerId);
    if (member !== undefined) member.lastSeenAt = Math.max(now, member.lastSeenAt);
  }

  clear() {
    this.#members.clear();
  }

  /* Return each member's id with "online", "away" or "offline". */
  states(now) {
    return [...this.#members].sort().map(([playerId, {lastSeenAt, offlineAt}]) => {
      if (offlineAt !== null && now - offlineAt >= OFFLINE_MS) return [playerId, "offline"];
      return [playerId, now - lastSeenAt > AWAY_MS ? "away" : "online"];
    });
  }
}
