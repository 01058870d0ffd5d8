/** What the frames of a joined room do to its view, and what becomes of the messages this tab sends. */

import type { Ack, ChatMessage, ClientFrame, Durable, Nack, RoomJoined, ServerFrame } from "../wire/types.ts";
import { emptyLog, offer } from "./log.ts";
import type { Effect, Env, Pending, RoomView, State, Step } from "./state.ts";
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
    behindSince: null,
  }));
  return [next, next === state ? [] : [history(payload.roomSlug)]];
}

/** The join is acked: everything unsent goes out, in order, under the keys it had. */
export function live(state: State, env: Env): Step {
  const slug = state.active;
  const view = activeView(state);
  if (slug === null || view === null) return [state, []];
  const unsent = view.pending.filter((item) => item.state === "sending");
  const pending = view.pending.map((item) => (item.state === "sending" ? { ...item, sentAt: env.now } : item));
  const next = withView({ ...state, joined: true, attempt: 0 }, slug, (old) => ({ ...old, pending }));
  return [next, unsent.map((item) => ({ do: "send", frame: speech(item) }))];
}

/** Durable events of the room looked at, live or out of a delta. */
export function durable(state: State, slug: string, events: readonly Durable[], env: Env, isLive: boolean): Step {
  const view = state.views[slug];
  if (view?.log == null) return [state, []];
  const { log, applied, gap } = offer(view.log, events);
  const next = withView(state, slug, (old) => ({
    ...old,
    log,
    pending: withoutShown(old.pending, applied, log.seq, state.user?.id ?? null),
    behindSince: gap ? (old.behindSince ?? env.now) : null,
  }));
  const heard = isLive ? applied.filter((message) => message.userId !== state.user?.id) : [];
  return [next, heard.map((message) => ({ do: "announce", message }))];
}

/** A message of ours leaves the list of unsent ones when the log shows it: by its key, or by its place. */
export function withoutShown(pending: readonly Pending[], applied: readonly ChatMessage[], seq: number, me: string | null): readonly Pending[] {
  const shown = new Set(applied.filter((message) => message.userId === me).map((message) => message.senderRequestId));
  const left = pending.filter((item) => !shown.has(item.key) && !(item.state === "stored" && item.seq !== null && item.seq <= seq));
  return left.length === pending.length ? pending : left;
}

/** `ack` of a message: stored for good. */
export function acked(state: State, payload: Ack, env: Env): State {
  const { seq, requestId } = payload;
  const slug = Object.values(state.views).find((view) => view.pending.some((item) => item.key === requestId))?.slug;
  const next = changePending(state, requestId, (item, view) => {
    if (seq !== null && view.log !== null && seq <= view.log.seq) return null;
    return { ...item, state: "stored", seq, reason: null };
  });
  // Stored beyond what is shown: its event is next, or lost on the way.
  return withView(next, slug ?? "", (view) => {
    const behind = seq !== null && view.log !== null && seq > view.log.seq;
    return behind ? { ...view, behindSince: view.behindSince ?? env.now } : view;
  });
}

/** `nack` of a message: the person decides whether to try again. */
export function nacked(state: State, payload: Nack): State {
  const reason = { code: payload.code, message: payload.message };
  return changePending(state, payload.requestId, (item) => ({ ...item, state: "failed", sentAt: null, reason }));
}

/** Change or drop (null) the unsent message with this key, in whatever room it is. */
export function changePending(state: State, key: string, change: (item: Pending, view: RoomView) => Pending | null): State {
  const view = Object.values(state.views).find((candidate) => candidate.pending.some((item) => item.key === key));
  if (view === undefined) return state;
  const pending = view.pending.flatMap((item) => (item.key === key ? (change(item, view) ?? []) : item));
  return withView(state, view.slug, (old) => ({ ...old, pending }));
}

/** Who is in the room: the whole list, or one who came or went. */
export function presence(state: State, frame: Extract<ServerFrame, { type: "room.presence" | "presence.joined" | "presence.left" }>): State {
  return withView(state, frame.payload.roomSlug, (view) => {
    if (frame.type === "room.presence") return { ...view, people: frame.payload.users };
    const { userId, userName } = frame.payload;
    const others = view.people.filter((person) => person.userId !== userId);
    return { ...view, people: frame.type === "presence.joined" ? [...others, { userId, userName }] : others };
  });
}

/** The frame of a message. */
export function speech(item: Pending): ClientFrame {
  return { type: "chat.send", requestId: item.key, idempotencyKey: item.key, payload: { text: item.text } };
}

function history(slug: string): Effect {
  return { do: "fetch", query: { what: "history", slug, beforeSeq: null } };
}
