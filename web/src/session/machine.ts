/**
 * The rules of a tab: (state, event, env) -> (state, effects). No clock, no network, no page.
 *
 * Signed in, the tab keeps one socket: ticket, open, `server.ready`, `room.join` with `after`, live. Whatever breaks
 * leads to a wait and the same path again; the log's position and the messages' keys make that safe.
 */

import type { ServerFrame, SignIn } from "../wire/types.ts";
import { CLOSE, MAX_TEXT } from "../wire/types.ts";
import { backoffMs, spreadMs } from "./backoff.ts";
import { addHistory } from "./log.ts";
import * as room from "./room.ts";
import type { Effect, Env, Event, Failure, Pending, Query, RoomView, State, Step } from "./state.ts";
import { activeView, INITIAL, MAX_PENDING, withView } from "./state.ts";

/** A handshake through a busy ingress takes a second; ten means nobody is there. */
const OPEN_DEADLINE_MS = 10_000;
/** An ack follows a commit to disk; a socket that owes one for this long is dead. */
const ACK_DEADLINE_MS = 10_000;
/** Two beats with their jitter may be late before silence means anything. */
const SILENT_BEATS = 2.5;
/** A heartbeat may overtake the events it speaks of while the server is busy. */
const BEHIND_GRACE_MS = 2_000;
/** Tokens are refreshed this long before they end, so that a slow answer or a wrong clock does no harm. */
const REFRESH_EARLY_MS = 120_000;
const REFRESH_RETRY_MS = 30_000;
const DEFAULT_ROOM = "general";

/** One step. The same state object comes back when nothing changed. */
export function step(state: State, event: Event, env: Env): Step {
  switch (event.on) {
    case "start":
      return [state, [ask({ what: "sign-in" })]];
    case "tick":
      return tick(state, env);
    case "signed-in":
      return event.signIn === null ? [{ ...INITIAL, auth: "signed-out" }, []] : signedIn(state, event.signIn, env);
    case "refreshed":
      return refreshed(state, event.signIn, env);
    case "logged-out":
      return [{ ...INITIAL, auth: "signed-out" }, [{ do: "close" }, { do: "go", to: { page: "sso-logout" } }]];
    case "rooms":
      return roomsKnown(state, event.rooms, env);
    case "ticket":
      if (state.link.kind !== "preparing") return [state, []];
      return [{ ...state, link: { kind: "opening", since: env.now } }, [{ do: "open", ticket: event.ticket }]];
    case "history":
      return [historyRead(state, event), []];
    case "failed":
      return failed(state, event.query, event.failure, env);
    case "opened":
      return [{ ...state, link: { kind: "open", ready: false, heardAt: env.now, heartbeatMs: OPEN_DEADLINE_MS, idleSince: env.now } }, []];
    case "frame":
      return heard(state, event.frame, env);
    case "closed":
      return closed(state, event.code, env);
    case "network":
      return state.link.kind === "waiting" ? connect({ ...state, attempt: 0 }) : [state, []];
    default:
      return asked(state, event, env);
  }
}

/** What the person does. */
function asked(state: State, event: Extract<Event, { on: "send" | "retry" | "discard" | "choose-room" | "load-older" | "sign-in" | "sign-out" }>, env: Env): Step {
  switch (event.on) {
    case "send":
      return say(state, event.text, event.key, env);
    case "retry":
      return retry(state, event.key, env);
    case "discard":
      return [room.changePending(state, event.key, (item) => (item.state === "failed" ? null : item)), []];
    case "choose-room":
      return chooseRoom(state, event.slug);
    case "load-older":
      return loadOlder(state);
    case "sign-in":
      return [state, [{ do: "go", to: { page: "sso-start", provider: event.provider } }]];
    case "sign-out":
      return [{ ...state, notice: null }, [ask({ what: "logout" })]];
  }
}

const ask = (query: Query): Effect => ({ do: "fetch", query });

function signedIn(state: State, signIn: SignIn, env: Env): Step {
  // Another person signed in through another tab: nothing of the first one stays on the page.
  const base = state.user !== null && state.user.id !== signIn.user.id ? INITIAL : state;
  return connect({ ...base, auth: "signed-in", user: signIn.user, authDueAt: refreshAt(signIn, env) });
}

function refreshed(state: State, signIn: SignIn, env: Env): Step {
  const next: State = { ...state, user: signIn.user, authDueAt: refreshAt(signIn, env) };
  return next.link.kind === "preparing" ? connect(next) : [next, []];
}

function refreshAt(signIn: SignIn, env: Env): number {
  return env.now + Math.max(REFRESH_RETRY_MS, signIn.expiresInSec * 1000 - REFRESH_EARLY_MS);
}

/** The next thing missing on the way to a socket. */
function connect(state: State): Step {
  const query: Query = state.rooms.length === 0 ? { what: "rooms" } : { what: "ticket" };
  return [{ ...state, link: { kind: "preparing" }, joined: false, drainMs: null }, [ask(query)]];
}

function roomsKnown(state: State, rooms: State["rooms"], env: Env): Step {
  const known = rooms.some((item) => item.slug === state.active);
  const active = known ? state.active : ((rooms.find((item) => item.slug === DEFAULT_ROOM) ?? rooms[0])?.slug ?? null);
  const next = looking({ ...state, rooms }, active);
  if (next.link.kind !== "preparing") return [next, []];
  return rooms.length > 0 ? connect(next) : [later(next, null, env), []];
}

/** Look at a room: its view is made at first sight and kept, unsent messages and all. */
function looking(state: State, slug: string | null): State {
  const found = state.rooms.find((item) => item.slug === slug);
  if (slug === null || found === undefined) return { ...state, active: null };
  const fresh: RoomView = { slug, title: found.title, log: null, history: "none", people: [], pending: [], behindSince: null };
  return { ...state, active: slug, views: { ...state.views, [slug]: state.views[slug] ?? fresh } };
}

function chooseRoom(state: State, slug: string): Step {
  if (slug === state.active) return [state, []];
  const next = { ...looking(state, slug), joined: false, notice: null };
  return next.link.kind === "open" && next.link.ready ? room.join(next) : [next, []];
}

function loadOlder(state: State): Step {
  const view = activeView(state);
  if (view?.log == null || view.history === "loading") return [state, []];
  // What failed first was the newest page; after it come older ones.
  const beforeSeq = view.log.messages.length === 0 ? null : view.log.from + 1;
  const next = withView(state, view.slug, (old) => ({ ...old, history: "loading" }));
  return [next, [ask({ what: "history", slug: view.slug, beforeSeq })]];
}

function historyRead(state: State, { slug, beforeSeq, page }: Extract<Event, { on: "history" }>): State {
  return withView(state, slug, (view) => {
    const log = view.log === null ? null : addHistory(view.log, page, beforeSeq);
    if (log === null) return view;
    return { ...view, log, history: "ready", pending: room.withoutShown(view.pending, [], log.seq, null) };
  });
}

function say(state: State, text: string, key: string, env: Env): Step {
  const view = activeView(state);
  const length = [...text].length;
  if (view === null || text.trim() === "" || length > MAX_TEXT || view.pending.length >= MAX_PENDING) return [state, []];
  const item: Pending = { key, text, state: "sending", sentAt: state.joined ? env.now : null, seq: null, reason: null };
  const next = withView(state, view.slug, (old) => ({ ...old, pending: [...old.pending, item] }));
  return [next, state.joined ? [{ do: "send", frame: room.speech(item) }] : []];
}

function retry(state: State, key: string, env: Env): Step {
  const failedItem = activeView(state)?.pending.find((item) => item.key === key && item.state === "failed");
  if (failedItem === undefined) return [state, []];
  const item: Pending = { ...failedItem, state: "sending", reason: null, sentAt: state.joined ? env.now : null };
  const next = room.changePending(state, key, () => item);
  return [next, state.joined ? [{ do: "send", frame: room.speech(item) }] : []];
}

function failed(state: State, query: Query, { status, error }: Failure, env: Env): Step {
  const lost = status === 401;
  switch (query.what) {
    case "sign-in": {
      if (status === 403) return [{ ...INITIAL, auth: "banned" }, [{ do: "close" }]];
      const due = env.now + backoffMs(state.attempt, env.random);
      return [{ ...state, auth: "unavailable", authDueAt: due, attempt: state.attempt + 1 }, []];
    }
    case "logout":
      if (lost) return step(state, { on: "logged-out" }, env);
      return [{ ...state, notice: "logout-failed" }, []];
    case "refresh": {
      if (lost) return checkAgain(state);
      const next = { ...state, authDueAt: env.now + REFRESH_RETRY_MS };
      return state.link.kind === "preparing" ? [later(next, null, env), []] : [next, []];
    }
    case "history":
      return [withView(state, query.slug, (view) => ({ ...view, history: "failed" })), []];
    case "rooms":
    case "ticket":
      if (lost) return checkAgain(state);
      if (error.error === "Forbidden") return [{ ...INITIAL, auth: "banned" }, []];
      return [later(state, null, env), []];
  }
}

function checkAgain(state: State): Step {
  return [{ ...state, auth: "checking", authDueAt: null, link: { kind: "idle" }, joined: false }, [{ do: "close" }, ask({ what: "sign-in" })]];
}

function later(state: State, afterMs: number | null, env: Env): State {
  const wait = afterMs === null ? backoffMs(state.attempt, env.random) : spreadMs(afterMs, env.random);
  return { ...state, joined: false, drainMs: null, attempt: state.attempt + 1, link: { kind: "waiting", until: env.now + wait } };
}

function closed(state: State, code: number, env: Env): Step {
  if (state.auth !== "signed-in") return [state, []];
  if (code === CLOSE.banned) return [{ ...INITIAL, auth: "banned" }, []];
  if (code === CLOSE.sessionEnded) return [{ ...INITIAL, auth: "signed-out" }, []];
  return [later(state, state.drainMs, env), []];
}

function hangUp(state: State, env: Env): Step {
  return [later(state, null, env), [{ do: "close" }]];
}

/** What is due. */
function tick(state: State, env: Env): Step {
  const { link } = state;
  if (state.auth === "unavailable" && state.authDueAt !== null && env.now >= state.authDueAt) {
    return [{ ...state, auth: "checking", authDueAt: null }, [ask({ what: "sign-in" })]];
  }
  if (state.auth !== "signed-in") return [state, []];
  if (state.authDueAt !== null && env.now >= state.authDueAt && link.kind !== "preparing") {
    const preparing: State = link.kind === "waiting" ? { ...state, link: { kind: "preparing" } } : state;
    return [{ ...preparing, authDueAt: null }, [ask({ what: "refresh" })]];
  }
  switch (link.kind) {
    case "waiting":
      return env.now >= link.until ? connect(state) : [state, []];
    case "opening":
      return env.now - link.since > OPEN_DEADLINE_MS ? hangUp(state, env) : [state, []];
    case "open":
      return tickOpen(state, link, env);
    default:
      return [state, []];
  }
}

function tickOpen(state: State, link: Extract<State["link"], { kind: "open" }>, env: Env): Step {
  const view = activeView(state);
  const owed = view?.pending.some((item) => item.state === "sending" && item.sentAt !== null && env.now - item.sentAt > ACK_DEADLINE_MS);
  if (env.now - link.heardAt > link.heartbeatMs * SILENT_BEATS || (state.joined && owed === true)) return hangUp(state, env);
  if (!state.joined) return unjoined(state, link, env);
  const behind = view?.behindSince ?? null;
  return behind !== null && env.now - behind > BEHIND_GRACE_MS ? room.join(state) : [state, []];
}

function unjoined(state: State, link: Extract<State["link"], { kind: "open" }>, env: Env): Step {
  if (link.idleSince === null) return [{ ...state, link: { ...link, idleSince: env.now } }, []];
  return env.now - link.idleSince > OPEN_DEADLINE_MS ? hangUp(state, env) : [state, []];
}

function heard(state: State, frame: ServerFrame, env: Env): Step {
  if (state.link.kind !== "open") return [state, []];
  const alive: State = { ...state, link: { ...state.link, heardAt: env.now } };
  switch (frame.type) {
    case "server.ready":
      return room.join({ ...alive, link: { ...state.link, ready: true, heardAt: env.now, heartbeatMs: frame.payload.heartbeatMs } });
    case "server.draining":
      return [{ ...alive, drainMs: frame.payload.retryAfterMs }, []];
    case "server.heartbeat":
      return [beat(alive, frame.payload.rooms, env), []];
    case "room.joined":
      return room.joined(alive, frame.payload);
    case "room.reset":
      return room.reset(alive, frame.payload);
    case "room.delta":
      return room.durable(alive, frame.payload.roomSlug, frame.payload.events, env, false);
    case "chat.message":
      return room.durable(alive, frame.payload.roomSlug, [frame], env, true);
    case "unknown.durable":
      return room.durable(alive, slugOf(alive, frame.payload.roomId), [frame], env, true);
    case "room.presence":
    case "presence.joined":
    case "presence.left":
      return [room.presence(alive, frame), []];
    case "ack":
      if (frame.payload.eventType === "chat.send") return [room.acked(alive, frame.payload, env), []];
      return frame.payload.requestId === `join:${alive.active ?? ""}` ? room.live(settled(alive), env) : [alive, []];
    case "nack":
      return refused(alive, frame.payload, env);
    case "room.left":
    case "pong":
    case "error":
      return [alive, []];
  }
}

function settled(state: State): State {
  return state.link.kind === "open" ? { ...state, link: { ...state.link, idleSince: null } } : state;
}

function refused(state: State, nack: Extract<ServerFrame, { type: "nack" }>["payload"], env: Env): Step {
  if (nack.eventType !== "room.join") return [room.nacked(state, nack), []];
  if (nack.requestId !== `join:${state.active ?? ""}`) return [state, []];
  // The room is gone or not ours any more: look at what is left. Anything else may work on a new socket.
  if (nack.code !== "RoomNotFound") return [later(state, nack.retryAfterMs, env), [{ do: "close" }]];
  return [later({ ...state, rooms: [], active: null, notice: "room-gone" }, null, env), [{ do: "close" }]];
}

function beat(state: State, heads: readonly { roomId: string; lastSeq: number }[], env: Env): State {
  const slug = state.active ?? "";
  const top = heads.find((head) => slugOf(state, head.roomId) === slug)?.lastSeq ?? 0;
  return withView(state, slug, (view) => {
    const behind = view.log !== null && top > view.log.seq;
    return behind ? { ...view, behindSince: view.behindSince ?? env.now } : view;
  });
}

function slugOf(state: State, roomId: string): string {
  return state.rooms.find((item) => item.id === roomId)?.slug ?? "";
}
