/* The types of player.mjs, for TypeScript. Copy this file next to it. TypeScript reads it for `import … "./player.mjs"`.
   player.mjs explains the methods, and docs/protocol.md the frames. */

export const UNREAD_MESSAGES: number;
export const UNREAD_SIGNALS: number;
export const UNREAD_PRESENCE: number;

export interface Options {
  playerId?: string | number | null;
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>) | null;
  after?: string | null;
  timing?: Timing | null;
  observe?: Observe | null;
}

/* In seconds. */
export interface Timing {
  ping?: number;
  answer?: number;
  lifetime?: number;
  retry?: number;
  longestRetry?: number;
  offline?: number;
}

export type Observe = (...occurrence: Occurrence) => unknown;

export type Occurrence =
  | [event: "connecting" | "open", about: null]
  | [event: "sent" | "received", about: Frame]
  | [event: "refused", about: ServiceError]
  | [event: "lost", about: string]
  | [event: "waiting", about: number];

/* Any frame. `ask` can send and receive actions that this file doesn't know. */
export interface Frame {
  [key: string]: unknown;
}

export interface Message {
  type: "message";
  message: string;
  messageId: string;
  srcPlayerId: string;
  destinationPlayerId: string;
  sentAt: number;
  replayed?: boolean;
  /* Only a room's message has these two. */
  roomId?: string;
  position?: string;
}

export interface Ack {
  type: "ack";
  status: string;
  message: string;
  messageId: string;
  srcPlayerId: string;
  destinationPlayerId?: string;
  roomId?: string;
  sentAt: number;
  duplicate?: boolean;
  ackId: number;
}

/* The service's frame for what it refuses. */
export interface ServiceError {
  type: "error";
  code: string;
  detail: string;
  retryable: boolean;
  retryAfterMs?: number;
  ackId?: number | string;
}

export interface Signal {
  data: string;
  srcPlayerId: string;
  roomId?: string;
}

/* `lastSeenAt` and the values of `online` are in milliseconds since the epoch. */
export interface Presence {
  playerId: string;
  online: boolean;
  lastSeenAt: number | null;
}

export interface PresenceEvent extends Presence {
  type: "presence";
  roomId: string;
  member?: boolean;
}

export interface Members {
  type: "members";
  roomId: string;
  members: string[];
  online: Record<string, number> | null;
}

export class Player implements AsyncIterable<Message> {
  constructor(url: string, options?: Options | null);
  position: string | null;
  connect(): Promise<void>;
  close(): void;
  send(to: string, message: string, clientMessageId?: string | null): Promise<Ack>;
  sendToRoom(roomId: string, message: string, clientMessageId?: string | null): Promise<Ack>;
  join(roomId: string, options?: {presence?: boolean | null} | null): Promise<number>;
  leave(roomId: string): Promise<void>;
  members(roomId: string): Promise<Members>;
  presence(playerIds: readonly string[]): Promise<Presence[]>;
  signal(to: string, data: string): Promise<boolean>;
  signalToRoom(roomId: string, data: string): Promise<boolean>;
  signals(): AsyncGenerator<Signal, void, undefined>;
  presenceEvents(): AsyncGenerator<PresenceEvent | Members, void, undefined>;
  ask(frame: object): Promise<Frame>;
  [Symbol.asyncIterator](): AsyncGenerator<Message, void, undefined>;
}

export class Refused extends Error {
  constructor(code: string, detail: string);
  code: string;
}

export class Kicked extends Error {
  constructor(reason: string, until: number | null);
  reason: string;
  until: number | null;
}

export class CannotConnect extends Error {}

export class Offline extends Error {}
