/** What the frames of a joined room do to its view. */

import type { ClientFrame, Durable, RoomJoined, ServerFrame } from "../wire/types.ts";
import { afterReconnect, askUnread, counted } from "./attention.ts";
import { addHistory, emptyLog, offer } from "./log.ts";
import { releaseAll, withoutShown } from "./outbox.ts";
import type { Effect, Env, Event, State, Step } from "./state.ts";
import { activeView, withView } from "./state.ts";

/** Enter the room looked at, from where its log ends; also how a gap is filled. */
export function join(state: State): Step {
  const view = activeView(state);
  if (view === null) return [state, []];
  const after = view.log === null ? {} : { after: { epoch: view.log.epoch, seq: view.log.seq } };
  const frame: ClientFrame = { type: "room.join", requestId: `join:${view.slug}`, payload: { roomSlug: view.slug, ...after } };
  return [{ ...state, joined: false }, [{ do: "send", frame }]];
}

/** `room.joined`: a first entry starts the log at the top and loads the page below it. */
export function joined(state: State, payload: RoomJoined): Step {
  if (payload.roomSlug !== state.active) return [state, []];
  const view = activeView(state);
  const first = view?.log == null;
  const next = withView(state, payload.roomSlug, (old) => ({
    ...old,
    title: payload.roomTitle,
    log: old.log ?? emptyLog(payload.epoch, payload.lastSeq),
    history: first ? "loading" : old.history,
    typing: [],
    // What was told over the last socket may not have arrived.
    readSeq: 0,
    behindSince: null,
  }));
  return [next, first ? [history(payload.roomSlug)] : []];
}

/** `room.reset`: what was shown may have holes; draw anew from the history page. */
export function reset(state: State, payload: { roomSlug: string; epoch: string; lastSeq: number }): Step {
  const next = withView(state, payload.roomSlug, (view) => ({
    ...view,
    log: emptyLog(payload.epoch, payload.lastSeq),
    history: "loading",
    readSeq: 0,
    behindSince: null,
  }));
  return [next, next === state ? [] : [history(payload.roomSlug)]];
}

/** The join is acked: everything unsent goes out, in order, under the keys it had. */
export function live(state: State, env: Env): Step {
  if (state.active === null) return [state, []];
  const [sent, frames] = releaseAll({ ...state, joined: true, attempt: 0 }, state.active, env);
  const [next, asked] = afterReconnect(sent, env);
  return [next, [...frames, ...asked]];
}

/** Durable events of a room, live or out of a delta. */
export function durable(state: State, slug: string, events: readonly Durable[], env: Env, isLive: boolean): Step {
  const view = state.views[slug];
  if (view?.log == null) return [state, []];
  const offered = offer(view.log, events);
  const { log, applied, fresh, gap } = offered;
  const spoke = new Set(applied.map((message) => message.userId));
  const next = withView(state, slug, (old) => ({
    ...old,
    log,
    typing: old.typing.filter((one) => !spoke.has(one.userId)),
    pending: withoutShown(old.pending, applied, log.seq, state.user?.id ?? null),
    behindSince: gap ? (old.behindSince ?? env.now) : null,
  }));
  const heard = isLive ? fresh.filter((message) => message.userId !== state.user?.id) : [];
  return [counted(next, slug, offered), heard.map((message) => ({ do: "announce", message }))];
}

/** A page of the past is there. */
export function historyRead(state: State, { slug, beforeSeq, page }: Extract<Event, { on: "history" }>): State {
  return withView(state, slug, (view) => {
    const log = view.log === null ? null : addHistory(view.log, page, beforeSeq);
    if (log === null) return view;
    return { ...view, log, history: "ready", pending: withoutShown(view.pending, [], log.seq, null) };
  });
}

/** Ask for what is older than all that is here. */
export function loadOlder(state: State): Step {
  const view = activeView(state);
  if (view?.log == null || view.history === "loading") return [state, []];
  // What failed first was the newest page; after it come older ones.
  const beforeSeq = view.log.messages.length === 0 ? null : view.log.from + 1;
  const next = withView(state, view.slug, (old) => ({ ...old, history: "loading" }));
  return [next, [{ do: "fetch", query: { what: "history", slug: view.slug, beforeSeq } }]];
}

/**
 * `room.left` without our asking: the person is no longer a member. Nothing of the room stays on the page; a public
 * one is still in the list and may be entered again.
 */
export function removed(state: State, slug: string, env: Env): Step {
  const view = state.views[slug];
  if (view === undefined) return [state, []];
  const views = Object.fromEntries(Object.entries(state.views).filter(([name]) => name !== slug));
  if (slug !== state.active) return askUnread({ ...state, views }, env);
  const rooms = state.rooms.filter((room) => room.slug !== slug || room.isPublic);
  return askUnread({ ...state, views, rooms, active: null, joined: false, notice: { kind: "removed", room: view.title } }, env);
}

/** Who is in the room: the whole list, or one who came or went. */
export function presence(state: State, frame: Extract<ServerFrame, { type: "room.presence" | "presence.joined" | "presence.left" }>): State {
  return withView(state, frame.payload.roomSlug, (view) => {
    if (frame.type === "room.presence") return { ...view, people: frame.payload.users };
    const { userId, userName } = frame.payload;
    const others = view.people.filter((person) => person.userId !== userId);
    if (frame.type === "presence.joined") return { ...view, people: [...others, { userId, userName }] };
    return { ...view, people: others, typing: view.typing.filter((one) => one.userId !== userId) };
  });
}

function history(slug: string): Effect {
  return { do: "fetch", query: { what: "history", slug, beforeSeq: null } };
}
