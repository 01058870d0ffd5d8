/**
 * The rules of a tab: (state, event, env) -> (state, effects). No clock, no network, no page.
 *
 * Signed in, the tab keeps one socket: ticket, open, `server.ready`, `room.join` with `after`, live. Whatever breaks
 * leads to a wait and the same path again; the log's position and the messages' keys make that safe.
 */

import type { Nack, ServerFrame, SignIn } from "../wire/types.ts";
import { CLOSE } from "../wire/types.ts";
import * as attention from "./attention.ts";
import { backoffMs, spreadMs } from "./backoff.ts";
import * as outbox from "./outbox.ts";
import * as room from "./room.ts";
import type { Act, Effect, Env, Event, Failure, Query, RoomView, State, Step } from "./state.ts";
import { activeView, emptied, withView } from "./state.ts";

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
/** Those of the contract, for a server that names none. */
const DEFAULT_PROVIDERS = ["google", "yandex"];

/** One step. The same state object comes back when nothing changed. */
export function step(state: State, event: Event, env: Env): Step {
  const [next, effects] = happened(state, event, env);
  const [read, told] = attention.noteRead(next, env);
  return [read, told.length === 0 ? effects : [...effects, ...told]];
}

function happened(state: State, event: Event, env: Env): Step {
  switch (event.on) {
    case "start":
      return [event.authError === null ? state : { ...state, turned: { kind: "auth-error", code: event.authError } }, [ask({ what: "sign-in" })]];
    case "tick":
      return tick(state, env);
    case "signed-in":
      return event.signIn === null ? gate(state) : signedIn(state, event.signIn, env);
    case "providers":
      return [{ ...state, providers: event.providers ?? DEFAULT_PROVIDERS }, []];
    case "refreshed":
      return refreshed(state, event.signIn, env);
    case "logged-out":
      return [{ ...emptied(state), auth: "signed-out" }, [{ do: "close" }, { do: "go", to: { page: "sso-logout" } }]];
    case "rooms":
      return roomsKnown(state, event.rooms, env);
    case "unread":
      return [attention.roomsAgain(state, event.rooms), []];
    case "ticket":
      if (state.link.kind !== "preparing") return [state, []];
      return [{ ...state, link: { kind: "opening", since: env.now } }, [{ do: "open", ticket: event.ticket }]];
    case "history":
      return [room.historyRead(state, event), []];
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
function asked(state: State, act: Act, env: Env): Step {
  switch (act.on) {
    case "send":
    case "edit":
    case "delete":
      return outbox.put(state, act, env);
    case "retry":
      return outbox.retry(state, act.key, env);
    case "discard":
      return [outbox.discard(state, act.key), []];
    case "typing":
      return attention.typing(state, env);
    case "attention":
      return attention.attend(state, act, env);
    case "scrolled":
      return [act.atEnd === state.atEnd ? state : { ...state, atEnd: act.atEnd }, []];
    case "choose-room":
      return chooseRoom(state, act.slug);
    case "load-older":
      return room.loadOlder(state);
    case "sign-in":
      return [state, [{ do: "go", to: { page: "sso-start", provider: act.provider } }]];
    case "sign-out":
      return [{ ...state, notice: null }, [ask({ what: "logout" })]];
  }
}

const ask = (query: Query): Effect => ({ do: "fetch", query });

/** Nobody is signed in: offer it, under the names the server has for it. */
function gate(state: State): Step {
  const next: State = { ...emptied(state), auth: "signed-out", turned: state.turned };
  return [next, next.providers === null ? [ask({ what: "providers" })] : []];
}

function signedIn(state: State, signIn: SignIn, env: Env): Step {
  // Another person signed in through another tab: nothing of the first one stays on the page.
  const base = state.user !== null && state.user.id !== signIn.user.id ? emptied(state) : state;
  return connect({ ...base, auth: "signed-in", turned: null, user: signIn.user, authDueAt: refreshAt(signIn, env) });
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
  const next = looking({ ...state, rooms, roomsAt: env.now }, active);
  if (next.link.kind !== "preparing") return [next, []];
  return rooms.length > 0 ? connect(next) : [later(next, null, env), []];
}

/** Look at a room: its view is made at first sight and kept, unsent messages and all. */
function looking(state: State, slug: string | null): State {
  const found = state.rooms.find((item) => item.slug === slug);
  if (slug === null || found === undefined) return { ...state, active: null };
  const fresh: RoomView = { slug, title: found.title, log: null, history: "none", people: [], typing: [], pending: [], readSeq: 0, behindSince: null };
  return { ...state, active: slug, views: { ...state.views, [slug]: state.views[slug] ?? fresh } };
}

function chooseRoom(state: State, slug: string): Step {
  if (slug === state.active) return [state, []];
  const next = { ...looking(state, slug), joined: false, notice: null };
  return next.link.kind === "open" && next.link.ready ? room.join(next) : [next, []];
}

function failed(state: State, query: Query, { status, error }: Failure, env: Env): Step {
  const lost = status === 401;
  switch (query.what) {
    case "sign-in": {
      if (status === 403) return [{ ...emptied(state), auth: "banned" }, [{ do: "close" }]];
      const due = env.now + backoffMs(state.attempt, env.random);
      return [{ ...state, auth: "unavailable", authDueAt: due, attempt: state.attempt + 1 }, []];
    }
    case "logout":
      if (lost) return step(state, { on: "logged-out" }, env);
      return [{ ...state, notice: { kind: "logout-failed" } }, []];
    case "refresh": {
      if (lost) return checkAgain(state);
      const next = { ...state, authDueAt: env.now + REFRESH_RETRY_MS };
      return state.link.kind === "preparing" ? [later(next, null, env), []] : [next, []];
    }
    case "providers":
      return [{ ...state, authDueAt: env.now + backoffMs(state.attempt, env.random), attempt: state.attempt + 1 }, []];
    case "unread":
      // The counts stay as they were until the next time.
      return [state, []];
    case "history":
      return [withView(state, query.slug, (view) => ({ ...view, history: "failed" })), []];
    case "rooms":
    case "ticket":
      if (lost) return checkAgain(state);
      if (error.error === "Forbidden") return [{ ...emptied(state), auth: "banned" }, []];
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
  if (code === CLOSE.banned) return [{ ...emptied(state), auth: "banned" }, []];
  if (code === CLOSE.sessionEnded) return gate({ ...state, turned: { kind: "session-ended" } });
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
  if (state.auth === "signed-out" && state.providers === null && state.authDueAt !== null && env.now >= state.authDueAt) {
    return [{ ...state, authDueAt: null }, [ask({ what: "providers" })]];
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

function tickOpen(state: State, link: OpenLink, env: Env): Step {
  const view = activeView(state);
  const owed = view?.pending.some((item) => item.state === "sending" && item.sentAt !== null && env.now - item.sentAt > ACK_DEADLINE_MS);
  if (env.now - link.heardAt > link.heartbeatMs * SILENT_BEATS || (state.joined && owed === true)) return hangUp(state, env);
  if (!state.joined) return unjoined(state, link, env);
  const behind = view?.behindSince ?? null;
  if (behind !== null && env.now - behind > BEHIND_GRACE_MS) return room.join(state);
  const [sent, frames] = outbox.release(attention.forgetTypists(state, env), env);
  const [polled, query] = attention.poll(sent, env);
  return [polled, [...frames, ...query]];
}

function unjoined(state: State, link: OpenLink, env: Env): Step {
  // Between rooms there is nothing to wait for.
  if (state.active === null && link.ready) return attention.poll(state, env);
  if (link.idleSince === null) return [{ ...state, link: { ...link, idleSince: env.now } }, []];
  return env.now - link.idleSince > OPEN_DEADLINE_MS ? hangUp(state, env) : [state, []];
}

function heard(state: State, frame: ServerFrame, env: Env): Step {
  if (state.link.kind !== "open") return [state, []];
  const alive: State = { ...state, link: { ...state.link, heardAt: env.now } };
  switch (frame.type) {
    case "server.ready":
      return ready(alive, state.link, frame.payload, env);
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
    case "chat.edited":
    case "chat.deleted":
    case "member.joined":
    case "member.left":
      return room.durable(alive, frame.payload.roomSlug, [frame], env, true);
    case "unknown.durable":
      return room.durable(alive, slugOf(alive, frame.payload.roomId), [frame], env, true);
    case "room.presence":
    case "presence.joined":
    case "presence.left":
      return [room.presence(alive, frame), []];
    case "chat.typing":
      return [attention.typist(alive, frame.payload.roomSlug, frame.payload, env), []];
    case "room.read":
      return attention.readElsewhere(alive, frame.payload.roomSlug, frame.payload.seq, env);
    case "room.left":
      return room.removed(alive, frame.payload.roomSlug, env);
    case "ack":
      if (frame.payload.eventType.startsWith("chat.")) return outbox.acked(alive, frame.payload, env);
      return frame.payload.requestId === `join:${alive.active ?? ""}` ? room.live(settled(alive), env) : [alive, []];
    case "nack":
      return refused(alive, frame.payload, env);
    case "pong":
    case "error":
      return [alive, []];
  }
}

function settled(state: State): State {
  return state.link.kind === "open" ? { ...state, link: { ...state.link, idleSince: null } } : state;
}

type OpenLink = Extract<State["link"], { kind: "open" }>;

function ready(state: State, link: OpenLink, said: Extract<ServerFrame, { type: "server.ready" }>["payload"], env: Env): Step {
  const serverClock = { said: said.connectedAt, at: env.now };
  return room.join({ ...state, serverClock, link: { ...link, ready: true, heardAt: env.now, heartbeatMs: said.heartbeatMs } });
}

function refused(state: State, nack: Nack, env: Env): Step {
  if (nack.eventType === "room.read") return [attention.readRefused(state, nack.requestId, nack.retryAfterMs, env), []];
  if (nack.eventType !== "room.join") return outbox.nacked(state, nack, env);
  if (nack.requestId !== `join:${state.active ?? ""}`) return [state, []];
  // The room is gone or not ours any more: look at what is left. Anything else may work on a new socket.
  if (nack.code !== "RoomNotFound") return [later(state, nack.retryAfterMs, env), [{ do: "close" }]];
  return [later({ ...state, rooms: [], active: null, notice: { kind: "room-gone" } }, null, env), [{ do: "close" }]];
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
