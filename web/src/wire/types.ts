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

export type Durable =
  | { readonly type: "chat.message"; readonly payload: ChatMessage }
  | { readonly type: "unknown.durable"; readonly payload: UnknownDurable };

export type ServerFrame =
  | Durable
  | {
      readonly type: "server.ready";
      readonly payload: Person & { readonly connectionId: string; readonly heartbeatMs: number };
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
    };

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
