/* A program in TypeScript that uses everything in player.mjs. tsc checks it, and nothing runs it. Each line after an
   expected error must be an error, so the check also fails if the types allow too much. */

import {
  CannotConnect, Kicked, Offline, Player, Refused, UNREAD_MESSAGES, UNREAD_PRESENCE, UNREAD_SIGNALS,
  type Ack, type Members, type Message, type Observe, type Presence, type PresenceEvent, type Signal,
} from "../../../clients/player.mjs";

const observe: Observe = (...[event, about]) => {
  if (event === "waiting") return about.toFixed();
  if (event === "lost") return about.trim();
  if (event === "refused") return about.code;
  if (event === "received") return about["type"];
  return null;
};

const timing = {ping: 300, answer: 30, lifetime: 6900, retry: 1, longestRetry: 30, offline: 10};
const player = new Player("wss://example.com/dev/", {playerId: 1, token: async () => "t", after: null, timing, observe});
const plain = new Player("wss://example.com/dev/");

export async function talk(): Promise<void> {
  await player.connect();
  const ack: Ack = await player.send("2", "Hello!");
  const again: Ack = await player.sendToRoom("lobby", ack.message, ack.messageId);
  const count: number = await player.join("lobby", {presence: true});
  await plain.join("lobby");
  const {members, online}: Members = await player.members("lobby");
  const presences: Presence[] = await player.presence(members.slice(0, 100));
  const seenAt: number | undefined = online?.["2"];
  const wasSent: boolean = await player.signal("2", "typing") && await player.signalToRoom("lobby", "typing");
  console.log(again.roomId, count, presences[0]?.lastSeenAt, seenAt, wasSent, player.position, UNREAD_MESSAGES);
  const answer = await player.ask({action: "ping"});
  console.log(answer["type"], UNREAD_SIGNALS + UNREAD_PRESENCE);
  await player.leave("lobby");
  player.close();
}

export async function listen(): Promise<void> {
  try {
    for await (const {message, srcPlayerId, roomId, position} of player satisfies AsyncIterable<Message>) {
      console.log(message.length, srcPlayerId, roomId?.length, position?.length);
    }
  } catch (failure) {
    if (failure instanceof Kicked) console.log(failure.reason, failure.until ?? 0 + 1);
    else if (failure instanceof Refused) console.log(failure.code);
    else if (failure instanceof CannotConnect || failure instanceof Offline) console.log(failure.message);
  }
}

export async function watch(): Promise<void> {
  for await (const signal of player.signals()) console.log((signal satisfies Signal).data, signal.roomId?.length);
  for await (const event of player.presenceEvents()) {
    if (event.type === "members") console.log(event.members.join(), event.online?.["2"]);
    else console.log((event satisfies PresenceEvent).playerId, event.online, event.member);
  }
}

export function mistakes(): void {
  // @ts-expect-error: the options are misspelt.
  new Player("wss://example.com/dev/", {player_id: "1"});
  // @ts-expect-error: a time isn't text.
  new Player("wss://example.com/dev/", {timing: {ping: "5"}});
  // @ts-expect-error: a message is text.
  player.send("2", {text: "Hello!"});
  // @ts-expect-error: a signal has data.
  player.signal("2");
  // @ts-expect-error: presence is an option.
  player.join("lobby", true);
  // @ts-expect-error: a query names several players.
  player.presence("2");
  // @ts-expect-error: there is no such method.
  player.leaveAll();
  // @ts-expect-error: a private field.
  player.socket;
}
