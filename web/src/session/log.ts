/** One room's log as this tab knows it: every event once, in the order of its seq, or a gap that is known to be one. */

import type { ChatMessage, Durable, HistoryPage } from "../wire/types.ts";

/** A tab that stays open for weeks must not grow for ever; older messages can be loaded again. */
export const MAX_KEPT = 1000;
/** Events that wait for a gap to be filled. The server's deltas are as long; beyond that a new start is cheaper. */
export const MAX_AHEAD = 300;

export interface RoomLog {
  readonly epoch: string;
  /** Everything after `from`, up to and including `seq`, is here; below `from` the past is not loaded. */
  readonly from: number;
  readonly seq: number;
  /** By seq, no two alike. */
  readonly messages: readonly ChatMessage[];
  /** Beyond a gap, by seq. */
  readonly ahead: readonly Durable[];
  /** There are older messages than the first one here. */
  readonly hasMore: boolean;
}

export interface Offered {
  readonly log: RoomLog;
  /** Messages that are new, in order. */
  readonly applied: readonly ChatMessage[];
  /** Something is missing between what was applied and what came: join again with `after`. */
  readonly gap: boolean;
}

/** A log whose past is not loaded yet. */
export function emptyLog(epoch: string, seq: number): RoomLog {
  return { epoch, from: seq, seq, messages: [], ahead: [], hasMore: false };
}

/** Take events in any order, doubled or not; apply what is contiguous. Another epoch's events count as a gap. */
export function offer(log: RoomLog, events: readonly Durable[]): Offered {
  const waiting = new Map(log.ahead.map((event) => [event.payload.seq, event]));
  let foreign = false;
  for (const event of events) {
    if (event.payload.epoch !== log.epoch) foreign = true;
    else if (event.payload.seq > log.seq) waiting.set(event.payload.seq, event);
  }
  let seq = log.seq;
  const applied: ChatMessage[] = [];
  for (let next = waiting.get(seq + 1); next !== undefined; next = waiting.get(seq + 1)) {
    seq += 1;
    waiting.delete(seq);
    if (next.type === "chat.message") applied.push(next.payload);
  }
  const ahead = [...waiting.values()].sort((a, b) => a.payload.seq - b.payload.seq).slice(0, MAX_AHEAD);
  const kept = keep({ ...log, seq, ahead, messages: [...log.messages, ...applied] });
  return { log: kept, applied, gap: foreign || ahead.length > 0 };
}

/**
 * Put a page of the past where it belongs; `beforeSeq` is what it was asked with.
 * Null when it does not reach what is here (another epoch, or the log was reset meanwhile): a newer page is on its way.
 */
export function addHistory(log: RoomLog, page: HistoryPage, beforeSeq: number | null): RoomLog | null {
  const reaches = beforeSeq === null ? page.lastSeq : beforeSeq - 1;
  if (page.epoch !== log.epoch || reaches < log.from) return null;
  const past = page.messages.filter((message) => message.seq <= log.from);
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
