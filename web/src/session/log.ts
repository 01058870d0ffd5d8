/** One room's log as this tab knows it: every event once, in the order of its seq, or a gap that is known to be one. */

import type { Change, ChatMessage, Durable, HistoryPage } from "../wire/types.ts";

/** A tab that stays open for weeks must not grow for ever; older messages can be loaded again. */
export const MAX_KEPT = 1000;
/** Events that wait for a gap to be filled. The server's deltas are as long; beyond that a new start is cheaper. */
export const MAX_AHEAD = 300;

export interface RoomLog {
  readonly epoch: string;
  /** Everything after `from`, up to and including `seq`, is here; below `from` the past is not loaded. */
  readonly from: number;
  readonly seq: number;
  /** As they read now, without the deleted ones; by seq, no two alike. */
  readonly messages: readonly ChatMessage[];
  /** Beyond a gap, by seq. */
  readonly ahead: readonly Durable[];
  /** Changes of messages that are not loaded: a page on its way may have been read before them. */
  readonly unplaced: readonly Change[];
  /** There are older messages than the first one here. */
  readonly hasMore: boolean;
}

export interface Offered {
  readonly log: RoomLog;
  /** Messages that were said, in order; also those that were taken back at once. */
  readonly applied: readonly ChatMessage[];
  /** Those of them that are still there. */
  readonly fresh: readonly ChatMessage[];
  /** Messages that were shown and are deleted now, with the place of the delete. */
  readonly removed: readonly { readonly message: ChatMessage; readonly at: number }[];
  /** Something is missing between what was applied and what came: join again with `after`. */
  readonly gap: boolean;
}

/** A log whose past is not loaded yet. */
export function emptyLog(epoch: string, seq: number): RoomLog {
  return { epoch, from: seq, seq, messages: [], ahead: [], unplaced: [], hasMore: false };
}

/** Take events in any order, doubled or not; apply what is contiguous. Another epoch's events count as a gap. */
export function offer(log: RoomLog, events: readonly Durable[]): Offered {
  const waiting = new Map(log.ahead.map((event) => [event.payload.seq, event]));
  let foreign = false;
  for (const event of events) {
    if (event.payload.epoch !== log.epoch) foreign = true;
    else if (event.payload.seq > log.seq) waiting.set(event.payload.seq, event);
  }
  const run: Durable[] = [];
  for (let next = waiting.get(log.seq + 1); next !== undefined; next = waiting.get(log.seq + run.length + 1)) {
    run.push(next);
    waiting.delete(next.payload.seq);
  }
  const ahead = [...waiting.values()].sort((a, b) => a.payload.seq - b.payload.seq).slice(0, MAX_AHEAD);
  return { ...apply({ ...log, ahead }, run), gap: foreign || ahead.length > 0 };
}

/** What follows the log, onto it. Membership only takes its place: pages of the past do not have it, so no tab shows it. */
function apply(log: RoomLog, run: readonly Durable[]): Omit<Offered, "gap"> {
  const messages = [...log.messages];
  let unplaced = [...log.unplaced];
  const applied: ChatMessage[] = [];
  const removed: { message: ChatMessage; at: number }[] = [];
  for (const event of run) {
    if (event.type === "chat.message") {
      applied.push(event.payload);
      // Erased: its delete comes later in the log.
      if (event.payload.text !== "") messages.push(event.payload);
    } else if (event.type === "chat.edited" || event.type === "chat.deleted") {
      const old = changeIn(messages, event);
      // The newest change of a message is all that matters, and a delete must leave no text behind.
      if (old === null) unplaced = [...unplaced.filter(({ payload }) => payload.id !== event.payload.id), event];
      else if (event.type === "chat.deleted") removed.push({ message: old, at: event.payload.seq });
    }
  }
  const seq = log.seq + run.length;
  const fresh = messages.filter((message) => message.seq > log.seq);
  const kept = keep({ ...log, seq, messages, unplaced: unplaced.slice(-MAX_AHEAD) });
  return { log: kept, applied, fresh, removed };
}

/** Change the list in place; the message as it was, or null when it is not there. */
function changeIn(messages: ChatMessage[], change: Change): ChatMessage | null {
  const at = messages.findIndex(({ id }) => id === change.payload.id);
  const old = messages[at];
  if (old === undefined) return null;
  if (change.type === "chat.deleted") messages.splice(at, 1);
  else if (change.payload.text !== "") messages[at] = { ...old, text: change.payload.text, editedAt: change.payload.editedAt };
  return old;
}

/**
 * Put a page of the past where it belongs; `beforeSeq` is what it was asked with.
 * Null when it does not reach what is here (another epoch, or the log was reset meanwhile): a newer page is on its way.
 */
export function addHistory(log: RoomLog, page: HistoryPage, beforeSeq: number | null): RoomLog | null {
  const reaches = beforeSeq === null ? page.lastSeq : beforeSeq - 1;
  if (page.epoch !== log.epoch || reaches < log.from) return null;
  const past = page.messages.filter((message) => message.seq <= log.from);
  for (const change of log.unplaced) if (change.payload.seq > page.lastSeq) changeIn(past, change);
  const oldest = page.messages[0];
  const from = page.hasMore && oldest !== undefined ? Math.min(log.from, oldest.seq - 1) : 0;
  const hasMore = from < log.from ? page.hasMore : log.hasMore;
  const merged = { ...log, from, hasMore, messages: [...past, ...log.messages] };
  const newer = page.messages.filter((message) => message.seq > log.seq);
  return offer(merged, newer.map((payload) => ({ type: "chat.message" as const, payload }))).log;
}

/** Only what is applied live is trimmed: whoever scrolls back asked for what they load. */
function keep(log: RoomLog): RoomLog {
  const messages = log.messages.slice(-MAX_KEPT);
  const oldest = messages[0];
  if (messages.length === log.messages.length || oldest === undefined) return log;
  return { ...log, messages, from: oldest.seq - 1, hasMore: true };
}
