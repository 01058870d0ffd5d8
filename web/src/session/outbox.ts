/**
 * What the person says and changes, until the log shows it: sent in order, under one key however often.
 *
 * A server that has too much at once names a time. Then what is unsent goes one by one, each after the answer to the one
 * before, so that nothing overtakes and the server is not asked in vain.
 */

import type { Ack, ChatMessage, ClientFrame, Nack } from "../wire/types.ts";
import { MAX_TEXT } from "../wire/types.ts";
import type { Act, Env, Pending, RoomView, State, Step } from "./state.ts";
import { activeView, MAX_PENDING, withView } from "./state.ts";

/** A limit that names no time; the slowest of the server's buckets gives a token a second. */
const LIMITED_MS = 1_000;

/** Say something in the room looked at, or change what was said. */
export function put(state: State, act: Extract<Act, { on: "send" | "edit" | "delete" }>, env: Env): Step {
  const view = activeView(state);
  if (view === null || view.pending.length >= MAX_PENDING) return [state, []];
  const text = act.on === "delete" ? "" : act.text;
  if (act.on !== "delete" && (text.trim() === "" || [...text].length > MAX_TEXT)) return [state, []];
  const change = act.on === "send" ? null : { kind: act.on, messageId: act.messageId };
  const notBefore = unsent(view).at(-1)?.notBefore ?? null;
  const item: Pending = { key: act.key, text, change, state: "sending", sentAt: null, notBefore, seq: null, reason: null };
  return release(withView(state, view.slug, (old) => ({ ...old, pending: [...old.pending, item] })), env);
}

/** Send what may go now. */
export function release(state: State, env: Env): Step {
  const view = activeView(state);
  const items = view === null || !state.joined ? [] : next(view, env.now);
  if (view === null || items.length === 0) return [state, []];
  const keys = new Set(items.map(({ key }) => key));
  const pending = view.pending.map((item) => (keys.has(item.key) ? { ...item, sentAt: env.now, notBefore: null } : item));
  return [withView(state, view.slug, (old) => ({ ...old, pending })), items.map((item) => ({ do: "send", frame: frameOf(item) }))];
}

/** The room is live on a new socket: everything without an answer goes out again. */
export function releaseAll(state: State, slug: string, env: Env): Step {
  const again = (item: Pending): Pending => (item.state === "sending" ? { ...item, sentAt: null, notBefore: null } : item);
  return release(withView(state, slug, (view) => ({ ...view, pending: view.pending.map(again) })), env);
}

function unsent(view: RoomView): Pending[] {
  return view.pending.filter((item) => item.state === "sending" && item.sentAt === null);
}

function next(view: RoomView, now: number): readonly Pending[] {
  const queue = unsent(view);
  const first = queue[0];
  if (first === undefined || !queue.some((item) => item.notBefore !== null)) return queue;
  const underWay = view.pending.some((item) => item.state === "sending" && item.sentAt !== null);
  return underWay || (first.notBefore !== null && now < first.notBefore) ? [] : [first];
}

/** The person wants a refused one to be tried again. */
export function retry(state: State, key: string, env: Env): Step {
  const again = (item: Pending): Pending => (item.state === "failed" ? { ...item, state: "sending", reason: null, sentAt: null } : item);
  return release(changePending(state, key, again), env);
}

/** The person gives a refused one up. */
export function discard(state: State, key: string): State {
  return changePending(state, key, (item) => (item.state === "failed" ? null : item));
}

/** What is ours leaves the outbox when the log shows it: by its key, or by its place. */
export function withoutShown(pending: readonly Pending[], applied: readonly ChatMessage[], seq: number, me: string | null): readonly Pending[] {
  const shown = new Set(applied.filter((message) => message.userId === me).map((message) => message.senderRequestId));
  const left = pending.filter((item) => !shown.has(item.key) && !(item.state === "stored" && item.seq !== null && item.seq <= seq));
  return left.length === pending.length ? pending : left;
}

/** `ack`: stored for good. */
export function acked(state: State, payload: Ack, env: Env): Step {
  const { seq, requestId } = payload;
  const slug = Object.values(state.views).find((view) => view.pending.some((item) => item.key === requestId))?.slug;
  const done = changePending(state, requestId, (item, view) => {
    if (seq !== null && view.log !== null && seq <= view.log.seq) return null;
    return { ...item, state: "stored", seq, reason: null };
  });
  // Stored beyond what is shown: its event is next, or lost on the way.
  const noted = withView(done, slug ?? "", (view) => {
    const behind = seq !== null && view.log !== null && seq > view.log.seq;
    return behind ? { ...view, behindSince: view.behindSince ?? env.now } : view;
  });
  return release(noted, env);
}

/** `nack`: a limit is waited out; of anything else the person decides. What is to be deleted and is not there is done. */
export function nacked(state: State, payload: Nack, env: Env): Step {
  const { code, message, requestId } = payload;
  const done = changePending(state, requestId, (item) => {
    if (code === "RateLimited") return { ...item, sentAt: null, notBefore: env.now + (payload.retryAfterMs ?? LIMITED_MS) };
    if (code === "MessageNotFound" && item.change?.kind === "delete") return null;
    return { ...item, state: "failed", sentAt: null, reason: { code, message } };
  });
  return release(done, env);
}

/** Change or drop (null) the item with this key, in whatever room it is. */
function changePending(state: State, key: string, change: (item: Pending, view: RoomView) => Pending | null): State {
  const view = Object.values(state.views).find((candidate) => candidate.pending.some((item) => item.key === key));
  if (view === undefined) return state;
  const pending = view.pending.flatMap((item) => (item.key === key ? (change(item, view) ?? []) : item));
  return withView(state, view.slug, (old) => ({ ...old, pending }));
}

function frameOf({ key, text, change }: Pending): ClientFrame {
  const ids = { requestId: key, idempotencyKey: key };
  if (change === null) return { type: "chat.send", ...ids, payload: { text } };
  const { kind, messageId } = change;
  return kind === "edit" ? { type: "chat.edit", ...ids, payload: { messageId, text } } : { type: "chat.delete", ...ids, payload: { messageId } };
}
