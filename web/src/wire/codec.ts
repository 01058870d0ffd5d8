/** JSON to typed frames and back. Unknown fields and event types are ignored; known ones must be well formed. */

import type {
  Ack,
  ChatMessage,
  ClientFrame,
  Durable,
  HistoryPage,
  HttpError,
  Nack,
  Person,
  Room,
  RoomHead,
  ServerFrame,
  SignIn,
  User,
} from "./types.ts";

/** A frame or body that breaks the contract; the message says where. */
export class WireError extends Error {}

type Fields = Record<string, unknown>;

function fields(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new WireError(`${where}: not an object`);
  return value as Fields;
}

function text(from: Fields, name: string): string {
  const value = from[name];
  if (typeof value !== "string") throw new WireError(`${name}: not a string`);
  return value;
}

function whole(from: Fields, name: string): number {
  const value = from[name];
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new WireError(`${name}: not a whole number`);
  return value as number;
}

function flag(from: Fields, name: string): boolean {
  const value = from[name];
  if (typeof value !== "boolean") throw new WireError(`${name}: not a boolean`);
  return value;
}

function list<Item>(from: Fields, name: string, item: (value: unknown) => Item): Item[] {
  const value = from[name];
  if (!Array.isArray(value)) throw new WireError(`${name}: not a list`);
  return value.map(item);
}

function optional<Value>(from: Fields, name: string, read: (from: Fields, name: string) => Value): Value | null {
  return from[name] === undefined || from[name] === null ? null : read(from, name);
}

function person(value: unknown): Person {
  const from = fields(value, "user");
  return { userId: text(from, "userId"), userName: text(from, "userName") };
}

function head(value: unknown): RoomHead {
  const from = fields(value, "room");
  return { roomId: text(from, "roomId"), lastSeq: whole(from, "lastSeq") };
}

function chatMessage(from: Fields): ChatMessage {
  return {
    id: text(from, "id"),
    roomId: text(from, "roomId"),
    roomSlug: text(from, "roomSlug"),
    userId: text(from, "userId"),
    userName: text(from, "userName"),
    text: text(from, "text"),
    createdAt: text(from, "createdAt"),
    seq: whole(from, "seq"),
    epoch: text(from, "epoch"),
    senderRequestId: optional(from, "senderRequestId", text),
    editedAt: null,
  };
}

function place(from: Fields): { roomId: string; roomSlug: string; seq: number; epoch: string } {
  return { roomId: text(from, "roomId"), roomSlug: text(from, "roomSlug"), seq: whole(from, "seq"), epoch: text(from, "epoch") };
}

function ack(from: Fields): Ack {
  return {
    requestId: text(from, "requestId"),
    eventType: text(from, "eventType"),
    seq: optional(from, "seq", whole),
    messageId: optional(from, "messageId", text),
    duplicate: from.duplicate === true,
  };
}

function nack(from: Fields): Nack {
  return {
    requestId: text(from, "requestId"),
    eventType: text(from, "eventType"),
    code: text(from, "code"),
    message: text(from, "message"),
    retryable: flag(from, "retryable"),
    retryAfterMs: optional(from, "retryAfterMs", whole),
  };
}

const DURABLES: Record<Exclude<Durable["type"], "unknown.durable">, (from: Fields) => Durable> = {
  "chat.message": (from) => ({ type: "chat.message", payload: chatMessage(from) }),
  "chat.edited": (from) => ({
    type: "chat.edited",
    payload: { id: text(from, "id"), ...place(from), text: text(from, "text"), editedAt: text(from, "editedAt") },
  }),
  "chat.deleted": (from) => ({ type: "chat.deleted", payload: { id: text(from, "id"), ...place(from) } }),
  "member.joined": (from) => ({ type: "member.joined", payload: { ...place(from), ...person(from) } }),
  "member.left": (from) => ({ type: "member.left", payload: { ...place(from), ...person(from) } }),
};

/** An event of a room's log, of a known kind or only counted. */
function durable(value: unknown): Durable {
  const frame = fields(value, "event");
  const payload = fields(frame.payload, "payload");
  return reader<Durable>(DURABLES, frame.type)?.(payload) ?? unknownDurable(payload);
}

/** The reader of a type; a name every object has (`constructor`) is none. */
function reader<Read>(readers: Record<string, (from: Fields) => Read>, type: unknown): ((from: Fields) => Read) | undefined {
  return typeof type === "string" && Object.hasOwn(readers, type) ? readers[type] : undefined;
}

function unknownDurable(from: Fields): Durable {
  const position = { roomId: text(from, "roomId"), seq: whole(from, "seq"), epoch: text(from, "epoch") };
  return { type: "unknown.durable", payload: position };
}

const READERS: Record<string, (from: Fields) => ServerFrame> = {
  ...DURABLES,
  "server.ready": (from) => ({
    type: "server.ready",
    payload: {
      ...person(from),
      connectedAt: text(from, "connectedAt"),
      connectionId: text(from, "connectionId"),
      heartbeatMs: whole(from, "heartbeatMs"),
    },
  }),
  "server.heartbeat": (from) => ({ type: "server.heartbeat", payload: { rooms: list(from, "rooms", head) } }),
  "server.draining": (from) => ({ type: "server.draining", payload: { retryAfterMs: whole(from, "retryAfterMs") } }),
  pong: (from) => ({ type: "pong", payload: { ts: text(from, "ts") } }),
  ack: (from) => ({ type: "ack", payload: ack(from) }),
  nack: (from) => ({ type: "nack", payload: nack(from) }),
  error: (from) => ({ type: "error", payload: { code: text(from, "code"), message: text(from, "message") } }),
  "room.joined": (from) => ({
    type: "room.joined",
    payload: {
      roomId: text(from, "roomId"),
      roomSlug: text(from, "roomSlug"),
      roomTitle: text(from, "roomTitle"),
      epoch: text(from, "epoch"),
      lastSeq: whole(from, "lastSeq"),
    },
  }),
  "room.delta": (from) => ({
    type: "room.delta",
    payload: {
      roomSlug: text(from, "roomSlug"),
      epoch: text(from, "epoch"),
      fromSeq: whole(from, "fromSeq"),
      toSeq: whole(from, "toSeq"),
      events: list(from, "events", durable),
    },
  }),
  "room.reset": (from) => ({
    type: "room.reset",
    payload: { roomSlug: text(from, "roomSlug"), epoch: text(from, "epoch"), lastSeq: whole(from, "lastSeq") },
  }),
  "room.presence": (from) => ({
    type: "room.presence",
    payload: { roomId: text(from, "roomId"), roomSlug: text(from, "roomSlug"), users: list(from, "users", person) },
  }),
  "room.read": (from) => ({ type: "room.read", payload: { roomSlug: text(from, "roomSlug"), seq: whole(from, "seq") } }),
  "chat.typing": (from) => ({ type: "chat.typing", payload: { ...person(from), roomSlug: text(from, "roomSlug") } }),
  "room.left": (from) => ({ type: "room.left", payload: { roomSlug: text(from, "roomSlug") } }),
  "presence.joined": (from) => ({ type: "presence.joined", payload: { ...person(from), roomSlug: text(from, "roomSlug") } }),
  "presence.left": (from) => ({ type: "presence.left", payload: { ...person(from), roomSlug: text(from, "roomSlug") } }),
};

function json(raw: string): unknown {
  try {
    return JSON.parse(raw) as unknown;
  } catch {
    throw new WireError("not JSON");
  }
}

/**
 * The typed frame, or null for an event type this client does not know and that takes no place in a room's log.
 * Throws WireError when a known type is malformed.
 */
export function decodeFrame(raw: string): ServerFrame | null {
  const frame = fields(json(raw), "frame");
  const type = text(frame, "type");
  const payload = fields(frame.payload ?? {}, "payload");
  const read = reader(READERS, type);
  if (read !== undefined) return read(payload);
  return "seq" in payload && "epoch" in payload && "roomId" in payload ? unknownDurable(payload) : null;
}

/** What goes over the socket. */
export function encodeFrame(frame: ClientFrame): string {
  return JSON.stringify(frame);
}

function user(value: unknown): User {
  const from = fields(value, "user");
  return { id: text(from, "id"), email: text(from, "email"), name: text(from, "name"), role: text(from, "role") };
}

/** Body of GET /v1/auth/sso/session and POST /v1/auth/refresh; null: nobody is signed in. */
export function readSignIn(body: unknown): SignIn | null {
  const from = fields(body, "body");
  if (from.authenticated === false) return null;
  return { user: user(from.user), expiresInSec: whole(from, "expiresInSec") };
}

/** Body of GET /v1/auth/mode: the names to sign in under; null from a server that does not say. */
export function readProviders(body: unknown): string[] | null {
  const from = fields(body, "body");
  return from.providers === undefined ? null : list(from, "providers", (value) => text({ provider: value }, "provider"));
}

/** Body of GET /v1/auth/ws-ticket. */
export function readTicket(body: unknown): string {
  return text(fields(body, "body"), "ticket");
}

/** Body of GET /v1/rooms. */
export function readRooms(body: unknown): Room[] {
  return list(fields(body, "body"), "rooms", (value) => {
    const from = fields(value, "room");
    return {
      id: text(from, "id"),
      slug: text(from, "slug"),
      title: text(from, "title"),
      isPublic: flag(from, "is_public"),
      isMember: flag(from, "is_member"),
      unread: whole(from, "unread"),
      lastSeq: whole(from, "last_seq"),
    };
  });
}

/** Body of GET /v1/rooms/{slug}/messages, its rows as the socket would have carried them. */
export function readHistory(body: unknown): HistoryPage {
  const from = fields(body, "body");
  const slug = text(fields(from.room, "room"), "slug");
  const epoch = text(from, "epoch");
  const messages = list(from, "messages", (value): ChatMessage => {
    const row = fields(value, "message");
    return {
      id: text(row, "id"),
      roomId: text(row, "room_id"),
      roomSlug: slug,
      userId: text(row, "user_id"),
      userName: text(row, "user_name"),
      text: text(row, "text"),
      createdAt: text(row, "created_at"),
      seq: whole(row, "seq"),
      epoch,
      senderRequestId: null,
      editedAt: optional(row, "edited_at", text),
    };
  });
  const hasMore = flag(fields(from.pagination, "pagination"), "hasMore");
  return { messages, hasMore, epoch, lastSeq: whole(from, "lastSeq") };
}

/** Body of an HTTP error; a body that is not ours (a proxy's page) gets a plain code. */
export function readError(body: unknown): HttpError {
  try {
    const from = fields(body, "body");
    return { error: text(from, "error"), message: text(from, "message"), retryable: flag(from, "retryable") };
  } catch {
    return { error: "ServerError", message: "", retryable: true };
  }
}
