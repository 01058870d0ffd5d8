/** The part of the wire contract this client speaks (wire/README.md; golden vectors in wire/*.json). */

/** A place in a room's log; a seq means nothing without its epoch. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** A message as the socket carries it. */
export interface ChatMessage {
  readonly id: string;
  readonly roomId: string;
  readonly roomSlug: string;
  readonly userId: string;
  readonly userName: string;
  readonly text: string;
  readonly createdAt: string;
  readonly seq: number;
  readonly epoch: string;
  readonly senderRequestId: string | null;
  /** When the text was written that is shown; null: the first one. Live messages are always first ones. */
  readonly editedAt: string | null;
}

/** A message has another text; an empty one was erased since, because the message was deleted. */
export interface ChatEdited {
  readonly id: string;
  readonly roomId: string;
  readonly roomSlug: string;
  readonly text: string;
  readonly editedAt: string;
  readonly seq: number;
  readonly epoch: string;
}

export interface ChatDeleted {
  readonly id: string;
  readonly roomId: string;
  readonly roomSlug: string;
  readonly seq: number;
  readonly epoch: string;
}

/** Somebody became a member of the room, or is none any more. */
export interface Membership {
  readonly roomId: string;
  readonly roomSlug: string;
  readonly userId: string;
  readonly userName: string;
  readonly seq: number;
  readonly epoch: string;
}

/** A durable event of a kind newer than this client: its seq counts, its content is unknown. */
export interface UnknownDurable {
  readonly roomId: string;
  readonly seq: number;
  readonly epoch: string;
}

export interface Person {
  readonly userId: string;
  readonly userName: string;
}

/** What changes a message that was said before. */
export type Change =
  | { readonly type: "chat.edited"; readonly payload: ChatEdited }
  | { readonly type: "chat.deleted"; readonly payload: ChatDeleted };

export type Durable =
  | { readonly type: "chat.message"; readonly payload: ChatMessage }
  | Change
  | { readonly type: "member.joined"; readonly payload: Membership }
  | { readonly type: "member.left"; readonly payload: Membership }
  | { readonly type: "unknown.durable"; readonly payload: UnknownDurable };

export type ServerFrame =
  | Durable
  | {
      readonly type: "server.ready";
      readonly payload: Person & { readonly connectedAt: string; readonly connectionId: string; readonly heartbeatMs: number };
    }
  | { readonly type: "server.heartbeat"; readonly payload: { readonly rooms: readonly RoomHead[] } }
  | { readonly type: "server.draining"; readonly payload: { readonly retryAfterMs: number } }
  | { readonly type: "pong"; readonly payload: { readonly ts: string } }
  | { readonly type: "ack"; readonly payload: Ack }
  | { readonly type: "nack"; readonly payload: Nack }
  | { readonly type: "error"; readonly payload: { readonly code: string; readonly message: string } }
  | { readonly type: "room.joined"; readonly payload: RoomJoined }
  | { readonly type: "room.delta"; readonly payload: RoomDelta }
  | {
      readonly type: "room.reset";
      readonly payload: { readonly roomSlug: string; readonly epoch: string; readonly lastSeq: number };
    }
  | {
      readonly type: "room.presence";
      readonly payload: { readonly roomId: string; readonly roomSlug: string; readonly users: readonly Person[] };
    }
  | { readonly type: "room.left"; readonly payload: { readonly roomSlug: string } }
  | { readonly type: "room.read"; readonly payload: { readonly roomSlug: string; readonly seq: number } }
  | { readonly type: "chat.typing"; readonly payload: Person & { readonly roomSlug: string } }
  | { readonly type: "presence.joined"; readonly payload: Person & { readonly roomSlug: string } }
  | { readonly type: "presence.left"; readonly payload: Person & { readonly roomSlug: string } };

export interface RoomHead {
  readonly roomId: string;
  readonly lastSeq: number;
}

export interface Ack {
  readonly requestId: string;
  readonly eventType: string;
  readonly seq: number | null;
  readonly messageId: string | null;
  readonly duplicate: boolean;
}

export interface Nack {
  readonly requestId: string;
  readonly eventType: string;
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs: number | null;
}

export interface RoomJoined {
  readonly roomId: string;
  readonly roomSlug: string;
  readonly roomTitle: string;
  readonly epoch: string;
  readonly lastSeq: number;
}

export interface RoomDelta {
  readonly roomSlug: string;
  readonly epoch: string;
  readonly fromSeq: number;
  readonly toSeq: number;
  readonly events: readonly Durable[];
}

export type ClientFrame =
  | { readonly type: "ping"; readonly requestId: string }
  | {
      readonly type: "room.join";
      readonly requestId: string;
      readonly payload: { readonly roomSlug: string; readonly after?: Position };
    }
  | { readonly type: "room.leave"; readonly requestId: string; readonly payload: Record<string, never> }
  | {
      readonly type: "chat.send";
      readonly requestId: string;
      readonly idempotencyKey: string;
      readonly payload: { readonly text: string };
    }
  | {
      readonly type: "chat.edit";
      readonly requestId: string;
      readonly idempotencyKey: string;
      readonly payload: { readonly messageId: string; readonly text: string };
    }
  | {
      readonly type: "chat.delete";
      readonly requestId: string;
      readonly idempotencyKey: string;
      readonly payload: { readonly messageId: string };
    }
  | { readonly type: "chat.typing"; readonly payload: Record<string, never> }
  | { readonly type: "room.read"; readonly requestId: string; readonly payload: { readonly seq: number } };

/** Why the server closes a socket. */
export const CLOSE = {
  missingTicket: 4001,
  invalidTicket: 4002,
  banned: 4003,
  slowConsumer: 4008,
  sessionEnded: 4009,
  draining: 4012,
} as const;

/** The contract's bound of a message, in characters (code points). */
export const MAX_TEXT = 4000;
/** How long an own message can be edited and deleted; the server's clock decides. */
export const CHANGE_WINDOW_MS = 600_000;

/** Rows of the HTTP side. */
export interface User {
  readonly id: string;
  readonly email: string;
  readonly name: string;
  readonly role: string;
}

export interface Room {
  readonly id: string;
  readonly slug: string;
  readonly title: string;
  readonly isPublic: boolean;
  readonly isMember: boolean;
  readonly unread: number;
  readonly lastSeq: number;
}

export interface HistoryPage {
  readonly messages: readonly ChatMessage[];
  readonly hasMore: boolean;
  readonly epoch: string;
  readonly lastSeq: number;
}

export interface SignIn {
  readonly user: User;
  readonly expiresInSec: number;
}

export interface HttpError {
  readonly error: string;
  readonly message: string;
  readonly retryable: boolean;
}
