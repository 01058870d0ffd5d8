// A page and the events after it must give what a fresh page gives, whatever the events are and however they are cut.
import assert from "node:assert/strict";
import { test } from "node:test";
import { addHistory, emptyLog, offer, type RoomLog } from "../src/session/log.ts";
import type { ChatMessage, Durable, HistoryPage } from "../src/wire/types.ts";
import { deleted, edited, member, said } from "./samples.ts";

/** What the server would answer at this place of the log. */
function snapshot(events: readonly Durable[], at: number, limit = 100, before = Infinity): HistoryPage {
  const rows = new Map<string, ChatMessage>();
  for (const event of events.slice(0, at)) {
    if (event.type === "chat.message") rows.set(event.payload.id, event.payload);
    else if (event.type === "chat.deleted") rows.delete(event.payload.id);
    else if (event.type === "chat.edited") {
      const row = rows.get(event.payload.id);
      if (row !== undefined) rows.set(row.id, { ...row, text: event.payload.text, editedAt: event.payload.editedAt });
    }
  }
  const older = [...rows.values()].filter(({ seq }) => seq < before);
  return { messages: older.slice(-limit), hasMore: older.length > limit, epoch: "e1", lastSeq: at };
}

/** As a delta tells events of the past: what was deleted since has no text. */
function told(events: readonly Durable[], from: number, to: number): Durable[] {
  const gone = new Set(events.slice(0, to).flatMap((event) => (event.type === "chat.deleted" ? event.payload.id : [])));
  return events.slice(from, to).map((event): Durable => {
    if (event.type === "chat.message" && gone.has(event.payload.id)) return { ...event, payload: { ...event.payload, text: "" } };
    return event.type === "chat.edited" && gone.has(event.payload.id) ? { ...event, payload: { ...event.payload, text: "" } } : event;
  });
}

function loaded(events: readonly Durable[], at: number): RoomLog {
  const log = addHistory(emptyLog("e1", at), snapshot(events, at), null);
  assert.ok(log);
  return log;
}

const LOG: readonly Durable[] = [
  member(1, "member.joined"),
  said(2),
  said(3),
  edited(4, "m2"),
  said(5),
  edited(6, "m2"),
  deleted(7, "m3"),
  member(8, "member.left"),
  said(9),
  edited(10, "m9"),
  deleted(11, "m9"),
  { type: "unknown.durable", payload: { roomId: "r1", seq: 12, epoch: "e1" } },
  edited(13, "m5"),
  said(14),
  deleted(15, "m2"),
];

const fresh = (at: number) => snapshot(LOG, at).messages;

for (const type of ["chat.message", "chat.edited", "chat.deleted", "member.joined", "member.left", "unknown.durable"]) {
  test(`a page before every ${type}, and the event, is the page after it`, () => {
    const places = LOG.flatMap((event) => (event.type === type ? event.payload.seq : []));
    assert.notEqual(places.length, 0);
    for (const seq of places) {
      const { log } = offer(loaded(LOG, seq - 1), LOG.slice(seq - 1, seq));
      assert.deepEqual(log.messages, fresh(seq));
      assert.equal(log.seq, seq);
    }
  });
}

test("from every page, live events and deltas lead to every later page", () => {
  for (let from = 0; from <= LOG.length; from += 1) {
    for (let to = from; to <= LOG.length; to += 1) {
      assert.deepEqual(offer(loaded(LOG, from), LOG.slice(from, to)).log.messages, fresh(to), `live ${from}..${to}`);
      assert.deepEqual(offer(loaded(LOG, from), told(LOG, from, to)).log.messages, fresh(to), `delta ${from}..${to}`);
    }
  }
});

test("events that come backwards and twice give the same page", () => {
  let log = loaded(LOG, 3);
  for (const event of [...LOG, ...LOG].reverse()) log = offer(log, [event]).log;
  assert.deepEqual(log.messages, fresh(LOG.length));
});

test("a first page that was read before or after events which came meanwhile gives the same page", () => {
  for (let join = 0; join <= LOG.length; join += 1) {
    for (let read = join; read <= LOG.length; read += 1) {
      for (const seen of [join, read, LOG.length]) {
        const live = offer(emptyLog("e1", join), LOG.slice(join, Math.max(join, seen))).log;
        const log = addHistory(live, snapshot(LOG, read), null);
        assert.ok(log);
        assert.deepEqual(offer(log, LOG).log.messages, fresh(LOG.length), `joined at ${join}, read at ${read}, heard up to ${seen}`);
      }
    }
  }
});

test("an older page that was read before a change is shown with the change", () => {
  const top = LOG.length;
  for (let read = 10; read <= top; read += 1) {
    const newest = addHistory(emptyLog("e1", read), snapshot(LOG, read, 1), null);
    assert.ok(newest);
    const oldest = newest.from + 1;
    const older = snapshot(LOG, read, 100, oldest);
    const heard = offer(newest, LOG.slice(read)).log;
    const log = addHistory(heard, older, oldest);
    assert.deepEqual(log?.messages, fresh(top), `read at ${read}`);
  }
});

test("of a message that is not loaded only the newest change is kept, and nothing of a deleted one", () => {
  const { log } = offer(emptyLog("e1", 3), LOG.slice(3, 15));
  assert.deepEqual(log.unplaced.map(({ type, payload }) => `${type} ${payload.id}`), ["chat.deleted m3", "chat.deleted m2"]);
});

test("a deleted message leaves nothing of its text behind", () => {
  const { log } = offer(loaded(LOG, 6), LOG.slice(6));
  for (const word of ["text 3", "text 9", "text of 10", "text 2"]) assert.equal(JSON.stringify(log).includes(`"${word}"`), false, word);
});
