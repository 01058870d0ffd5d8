/** What a tab knows, what can happen to it, and what it asks the outside to do. Values only; the rules are in machine.ts. */

import type { ChatMessage, ClientFrame, HistoryPage, HttpError, Person, Room, ServerFrame, SignIn, User } from "../wire/types.ts";
import type { RoomLog } from "./log.ts";

/** Unsent messages a room may hold; more means the connection is gone and the person should know. */
export const MAX_PENDING = 50;

/** What we said, or changed of what we said, that the log does not show yet. Its key is idempotency key and request id. */
export interface Pending {
  readonly key: string;
  /** The text said, or the new text of an edit; empty for a delete. */
  readonly text: string;
  /** Null: a new message. */
  readonly change: { readonly kind: "edit" | "delete"; readonly messageId: string } | null;
  /** `stored`: acked, but the event itself has not arrived. */
  readonly state: "sending" | "stored" | "failed";
  /** When it last went over the socket, in ms; null: it waits for a socket. */
  readonly sentAt: number | null;
  /** The server had too much at once and named a time, in ms: not before it. */
  readonly notBefore: number | null;
  readonly seq: number | null;
  /** Why it failed, as the server said it. */
  readonly reason: { readonly code: string; readonly message: string } | null;
}

/** Somebody who was typing a moment ago. */
export interface Typist extends Person {
  /** When they are forgotten, in ms. */
  readonly until: number;
}

export interface RoomView {
  readonly slug: string;
  readonly title: string;
  readonly log: RoomLog | null;
  readonly history: "none" | "loading" | "ready" | "failed";
  readonly people: readonly Person[];
  readonly typing: readonly Typist[];
  readonly pending: readonly Pending[];
  /** How far this tab has told the server that the room is read. */
  readonly readSeq: number;
  /** Since when events are known to be missing, in ms. */
  readonly behindSince: number | null;
}

export type Link =
  | { readonly kind: "idle" }
  | { readonly kind: "preparing" }
  | { readonly kind: "opening"; readonly since: number }
  | {
      readonly kind: "open";
      readonly ready: boolean;
      readonly heardAt: number;
      readonly heartbeatMs: number;
      /** Since when it is open without a joined room. */
      readonly idleSince: number | null;
    }
  | { readonly kind: "waiting"; readonly until: number };

/** Something the person has to know. */
export type Notice =
  | { readonly kind: "logout-failed" }
  | { readonly kind: "room-gone" }
  /** The person is no longer a member of this room. */
  | { readonly kind: "removed"; readonly room: string };

/** Why somebody who wanted to be in stands at the gate; `code` is the server's reason for a failed sign-in. */
export type Turned = { readonly kind: "session-ended" } | { readonly kind: "auth-error"; readonly code: string };

export interface State {
  readonly auth: "checking" | "signed-out" | "unavailable" | "banned" | "signed-in";
  readonly turned: Turned | null;
  /** The names to sign in under; null: not known yet. */
  readonly providers: readonly string[] | null;
  readonly user: User | null;
  /** When the session token must be refreshed, or signing in tried again, in ms. */
  readonly authDueAt: number | null;
  readonly rooms: readonly Room[];
  readonly active: string | null;
  /** The room of the open socket has been entered and is live. */
  readonly joined: boolean;
  readonly views: Readonly<Record<string, RoomView>>;
  readonly link: Link;
  /** Failed connections in a row. */
  readonly attempt: number;
  /** The server said it is going, and when to come back. */
  readonly drainMs: number | null;
  readonly notice: Notice | null;
  /** The page can be seen; the person looks at it; the newest message is in view. */
  readonly visible: boolean;
  readonly focused: boolean;
  readonly atEnd: boolean;
  /** When the list of rooms, a read pointer and "is typing" last went out, in ms. */
  readonly roomsAt: number;
  readonly readAt: number;
  readonly typedAt: number;
  /** What the server's clock said, and when; the window for changes is measured by it. */
  readonly serverClock: { readonly said: string; readonly at: number } | null;
}

export const INITIAL: State = {
  auth: "checking",
  turned: null,
  providers: null,
  user: null,
  authDueAt: null,
  rooms: [],
  active: null,
  joined: false,
  views: {},
  link: { kind: "idle" },
  attempt: 0,
  drainMs: null,
  notice: null,
  visible: false,
  focused: false,
  atEnd: true,
  roomsAt: 0,
  readAt: 0,
  typedAt: 0,
  serverClock: null,
};

export type Query =
  | { readonly what: "sign-in" }
  | { readonly what: "providers" }
  | { readonly what: "refresh" }
  | { readonly what: "logout" }
  | { readonly what: "rooms" }
  /** The rooms once more, for their unread counts. */
  | { readonly what: "unread" }
  | { readonly what: "ticket" }
  | { readonly what: "history"; readonly slug: string; readonly beforeSeq: number | null };

/** `status` 0: no answer came. */
export interface Failure {
  readonly status: number;
  readonly error: HttpError;
}

export type Event =
  /** `authError`: what the address said about a sign-in that failed. */
  | { readonly on: "start"; readonly authError: string | null }
  | { readonly on: "tick" }
  | { readonly on: "signed-in"; readonly signIn: SignIn | null }
  | { readonly on: "providers"; readonly providers: readonly string[] | null }
  | { readonly on: "refreshed"; readonly signIn: SignIn }
  | { readonly on: "logged-out" }
  | { readonly on: "rooms"; readonly rooms: readonly Room[] }
  | { readonly on: "unread"; readonly rooms: readonly Room[] }
  | { readonly on: "ticket"; readonly ticket: string }
  | { readonly on: "history"; readonly slug: string; readonly beforeSeq: number | null; readonly page: HistoryPage }
  | { readonly on: "failed"; readonly query: Query; readonly failure: Failure }
  | { readonly on: "opened" }
  | { readonly on: "frame"; readonly frame: ServerFrame }
  | { readonly on: "closed"; readonly code: number }
  | { readonly on: "network" }
  | Act;

/** What the person does. */
export type Act =
  | { readonly on: "send"; readonly text: string; readonly key: string }
  | { readonly on: "edit"; readonly messageId: string; readonly text: string; readonly key: string }
  | { readonly on: "delete"; readonly messageId: string; readonly key: string }
  | { readonly on: "retry"; readonly key: string }
  | { readonly on: "discard"; readonly key: string }
  | { readonly on: "typing" }
  | { readonly on: "attention"; readonly visible: boolean; readonly focused: boolean }
  | { readonly on: "scrolled"; readonly atEnd: boolean }
  | { readonly on: "choose-room"; readonly slug: string }
  | { readonly on: "load-older" }
  | { readonly on: "sign-in"; readonly provider: string }
  | { readonly on: "sign-out" };

export type Effect =
  | { readonly do: "fetch"; readonly query: Query }
  | { readonly do: "open"; readonly ticket: string }
  | { readonly do: "send"; readonly frame: ClientFrame }
  | { readonly do: "close" }
  | { readonly do: "go"; readonly to: { readonly page: "sso-start"; readonly provider: string } | { readonly page: "sso-logout" } }
  /** Somebody else spoke just now: tell those who listen to the page. */
  | { readonly do: "announce"; readonly message: ChatMessage };

/** Time in ms and randomness in [0, 1), handed in. */
export interface Env {
  readonly now: number;
  readonly random: number;
}

export type Step = readonly [State, readonly Effect[]];

/** The view of the room that is looked at. */
export function activeView(state: State): RoomView | null {
  return state.active === null ? null : (state.views[state.active] ?? null);
}

/** The state with one view changed; without that view, unchanged. */
export function withView(state: State, slug: string, change: (view: RoomView) => RoomView): State {
  const view = state.views[slug];
  return view === undefined ? state : { ...state, views: { ...state.views, [slug]: change(view) } };
}

/** The state with one room of the list changed. */
export function withRoom(state: State, slug: string, change: (room: Room) => Room): State {
  return { ...state, rooms: state.rooms.map((item) => (item.slug === slug ? change(item) : item)) };
}

/** What another person's page may know: nothing but how the page itself is looked at, and the way in. */
export function emptied(state: State): State {
  return { ...INITIAL, visible: state.visible, focused: state.focused, providers: state.providers };
}
