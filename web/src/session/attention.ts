/**
 * Who looks at what: read pointers, unread counts, who is typing.
 *
 * The server pushes nothing about rooms a socket is not in, so their counts come from GET /v1/rooms: asked when the
 * person comes back to the page, when a socket is replaced, and every half minute while the page can be seen.
 */

import type { Person, Room } from "../wire/types.ts";
import type { Offered, RoomLog } from "./log.ts";
import type { Env, State, Step } from "./state.ts";
import { activeView, withRoom, withView } from "./state.ts";

/** A read pointer is worth a write of the server's database, not one for each message of a fast conversation. */
const READ_EVERY_MS = 1_000;
const ROOMS_EVERY_MS = 30_000;
/** Going back and forth between windows asks no more often than this. */
const ROOMS_AT_MOST_MS = 2_000;
const TYPING_EVERY_MS = 2_000;
/** Twice as long as a typing person is silent, and a little for the way. */
const TYPING_LASTS_MS = 5_000;

/** The person reads the newest message of the room looked at, as it comes. */
export function reads(state: State): boolean {
  return state.focused && state.atEnd && state.joined && activeView(state)?.history === "ready";
}

/** After every step: what is read is not unread, and the server hears of it, now and then. */
export function noteRead(state: State, env: Env): Step {
  const view = activeView(state);
  if (view?.log == null || !reads(state)) return [state, []];
  const unread = state.rooms.find((room) => room.slug === view.slug)?.unread ?? 0;
  const read = unread === 0 ? state : withRoom(state, view.slug, (room) => ({ ...room, unread: 0 }));
  const { seq } = view.log;
  if (seq <= view.readSeq || env.now < state.readAt + READ_EVERY_MS) return [read, []];
  const told = withView({ ...read, readAt: env.now }, view.slug, (old) => ({ ...old, readSeq: seq }));
  return [told, [{ do: "send", frame: { type: "room.read", requestId: `read:${view.slug}`, payload: { seq } } }]];
}

/** The server did not take the pointer: tell it again, not before it said. */
export function readRefused(state: State, requestId: string, afterMs: number | null, env: Env): State {
  const slug = requestId.slice("read:".length);
  return withView({ ...state, readAt: env.now + (afterMs ?? 0) }, slug, (view) => ({ ...view, readSeq: 0 }));
}

/** Another tab of the same person has read up to `seq`. */
export function readElsewhere(state: State, slug: string, seq: number, env: Env): Step {
  const room = state.rooms.find((item) => item.slug === slug);
  if (room === undefined) return [state, []];
  const known = withView(state, slug, (view) => ({ ...view, readSeq: Math.max(view.readSeq, seq) }));
  const log = state.joined && state.active === slug ? (state.views[slug]?.log ?? null) : null;
  if (log === null && seq < room.lastSeq) return askUnread(known, env);
  const left = log === null ? 0 : Math.min(room.unread, foreignAfter(log, seq, state.user?.id ?? null));
  return [withRoom(known, slug, (item) => ({ ...item, unread: left })), []];
}

/** What was said in a room, and what was deleted, counts at once; what the list of rooms has counted does not again. */
export function counted(state: State, slug: string, { log, fresh, removed }: Pick<Offered, "log" | "fresh" | "removed">): State {
  const me = state.user?.id ?? null;
  return withRoom(state, slug, (room) => {
    const came = fresh.filter((message) => message.userId !== me && message.seq > room.lastSeq).length;
    const gone = removed.filter(({ message, at }) => message.userId !== me && at > room.lastSeq && message.seq <= room.lastSeq);
    // The unread ones are the newest of others; how many were newer than this one?
    const newer = (seq: number) => foreignAfter(log, seq, me) - came + gone.filter(({ message }) => message.seq > seq).length;
    const went = gone.filter(({ message }) => newer(message.seq) < room.unread).length;
    return { ...room, lastSeq: Math.max(room.lastSeq, log.seq), unread: Math.max(0, room.unread - went) + came };
  });
}

/** The list of rooms once more. Of the room looked at this tab may know newer things than the list. */
export function roomsAgain(state: State, rooms: readonly Room[]): State {
  const view = state.joined ? activeView(state) : null;
  const mine = (room: Room): Room => {
    if (view?.log == null || room.slug !== view.slug) return room;
    const since = Math.max(room.lastSeq, view.readSeq);
    const newer = foreignAfter(view.log, since, state.user?.id ?? null);
    return { ...room, unread: (view.readSeq >= room.lastSeq ? 0 : room.unread) + newer, lastSeq: Math.max(room.lastSeq, view.log.seq) };
  };
  return { ...state, rooms: rooms.map(mine) };
}

function foreignAfter(log: RoomLog, seq: number, me: string | null): number {
  return log.messages.filter((message) => message.seq > seq && message.userId !== me).length;
}

/** The page is seen, looked at, or not. */
export function attend(state: State, page: { visible: boolean; focused: boolean }, env: Env): Step {
  const came = (page.focused && !state.focused) || (page.visible && !state.visible);
  const next = { ...state, visible: page.visible, focused: page.focused };
  return came && env.now >= state.roomsAt + ROOMS_AT_MOST_MS ? askUnread(next, env) : [next, []];
}

/** On every tick: ask for the counts when it is time. */
export function poll(state: State, env: Env): Step {
  return state.visible && env.now >= state.roomsAt + ROOMS_EVERY_MS ? askUnread(state, env) : [state, []];
}

/** A socket was replaced: the other rooms have gone on meanwhile. */
export function afterReconnect(state: State, env: Env): Step {
  return env.now >= state.roomsAt + ROOMS_AT_MOST_MS ? askUnread(state, env) : [state, []];
}

/** Ask for the list of rooms; without a socket it is asked for after the reconnect. */
export function askUnread(state: State, env: Env): Step {
  if (state.auth !== "signed-in" || state.link.kind !== "open") return [state, []];
  return [{ ...state, roomsAt: env.now }, [{ do: "fetch", query: { what: "unread" } }]];
}

/** The person types: others are told, no more often than they can notice. */
export function typing(state: State, env: Env): Step {
  if (!state.joined || env.now < state.typedAt + TYPING_EVERY_MS) return [state, []];
  return [{ ...state, typedAt: env.now }, [{ do: "send", frame: { type: "chat.typing", payload: {} } }]];
}

/** Somebody types. */
export function typist(state: State, slug: string, { userId, userName }: Person, env: Env): State {
  return withView(state, slug, (view) => {
    const others = view.typing.filter((one) => one.userId !== userId);
    return { ...view, typing: [...others, { userId, userName, until: env.now + TYPING_LASTS_MS }] };
  });
}

/** Forget who types no more. */
export function forgetTypists(state: State, env: Env): State {
  const view = activeView(state);
  if (view?.typing.some((one) => env.now >= one.until) !== true) return state;
  return withView(state, view.slug, (old) => ({ ...old, typing: old.typing.filter((one) => env.now < one.until) }));
}
