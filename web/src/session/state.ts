/** What a tab knows, what can happen to it, and what it asks the outside to do. Values only; the rules are in machine.ts. */

import type { ChatMessage, ClientFrame, HistoryPage, HttpError, Person, Room, ServerFrame, SignIn, User } from "../wire/types.ts";
import type { RoomLog } from "./log.ts";

/** Unsent messages a room may hold; more means the connection is gone and the person should know. */
export const MAX_PENDING = 50;

/** A message of ours that the log does not show yet. Its key is both idempotency key and request id. */
export interface Pending {
  readonly key: string;
  readonly text: string;
  /** `stored`: acked, but the event itself has not arrived. */
  readonly state: "sending" | "stored" | "failed";
  /** When it last went over the socket, in ms; null: it waits for a socket. */
  readonly sentAt: number | null;
  readonly seq: number | null;
  /** Why it failed, as the server said it. */
  readonly reason: { readonly code: string; readonly message: string } | null;
}

export interface RoomView {
  readonly slug: string;
  readonly title: string;
  readonly log: RoomLog | null;
  readonly history: "none" | "loading" | "ready" | "failed";
  readonly people: readonly Person[];
  readonly pending: readonly Pending[];
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

export interface State {
  readonly auth: "checking" | "signed-out" | "unavailable" | "banned" | "signed-in";
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
  /** Something the person asked for did not work. */
  readonly notice: "logout-failed" | "room-gone" | null;
}

export const INITIAL: State = {
  auth: "checking",
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
};

export type Query =
  | { readonly what: "sign-in" }
  | { readonly what: "refresh" }
  | { readonly what: "logout" }
  | { readonly what: "rooms" }
  | { readonly what: "ticket" }
  | { readonly what: "history"; readonly slug: string; readonly beforeSeq: number | null };

/** `status` 0: no answer came. */
export interface Failure {
  readonly status: number;
  readonly error: HttpError;
}

export type Event =
  | { readonly on: "start" }
  | { readonly on: "tick" }
  | { readonly on: "signed-in"; readonly signIn: SignIn | null }
  | { readonly on: "refreshed"; readonly signIn: SignIn }
  | { readonly on: "logged-out" }
  | { readonly on: "rooms"; readonly rooms: readonly Room[] }
  | { readonly on: "ticket"; readonly ticket: string }
  | { readonly on: "history"; readonly slug: string; readonly beforeSeq: number | null; readonly page: HistoryPage }
  | { readonly on: "failed"; readonly query: Query; readonly failure: Failure }
  | { readonly on: "opened" }
  | { readonly on: "frame"; readonly frame: ServerFrame }
  | { readonly on: "closed"; readonly code: number }
  | { readonly on: "network" }
  | { readonly on: "send"; readonly text: string; readonly key: string }
  | { readonly on: "retry"; readonly key: string }
  | { readonly on: "discard"; readonly key: string }
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
