import assert from "node:assert/strict";
import { test } from "node:test";
import { backoffMs, spreadMs } from "../src/session/backoff.ts";
import { addHistory, emptyLog, MAX_AHEAD, MAX_KEPT, offer } from "../src/session/log.ts";
import { edited, message, page, said } from "./samples.ts";

const seqs = (messages: readonly { seq: number }[]) => messages.map(({ seq }) => seq);
const events = (...numbers: number[]) => numbers.map((seq) => ({ type: "chat.message" as const, payload: message(seq) }));

test("an event that came before is not applied again", () => {
  const first = offer(emptyLog("e1", 4), events(5));
  const second = offer(first.log, events(5, 4));
  assert.deepEqual(second.applied, []);
  assert.equal(second.gap, false);
  assert.deepEqual(seqs(second.log.messages), [5]);
});

test("events beyond a gap wait, and go in order once it is filled", () => {
  const early = offer(emptyLog("e1", 4), events(7, 6));
  assert.equal(early.gap, true);
  assert.deepEqual(early.applied, []);
  const filled = offer(early.log, events(5));
  assert.equal(filled.gap, false);
  assert.deepEqual(seqs(filled.applied), [5, 6, 7]);
});

test("an event of another epoch is a gap and changes nothing", () => {
  const foreign = offer(emptyLog("e1", 4), [{ type: "chat.message", payload: { ...message(5), epoch: "e2" } }]);
  assert.equal(foreign.gap, true);
  assert.deepEqual(foreign.log.messages, []);
});

test("a durable event of an unknown kind takes its place and shows nothing", () => {
  const offered = offer(emptyLog("e1", 4), [{ type: "unknown.durable", payload: { roomId: "r1", seq: 5, epoch: "e1" } }, ...events(6)]);
  assert.equal(offered.log.seq, 6);
  assert.deepEqual(seqs(offered.log.messages), [6]);
});

test("what was erased is not shown as empty while its delete is still on the way", () => {
  const first = offer(emptyLog("e1", 4), [said(5), said(6, { text: "" }), edited(7, "m5", "")]).log;
  assert.deepEqual(first.messages.map(({ id, text }) => `${id} ${text}`), ["m5 text 5"]);
  assert.equal(first.seq, 7);
});

test("every order of arrival, with every event doubled, gives the same log", () => {
  const numbers = [5, 6, 7, 8];
  const orders = numbers.flatMap((a) => numbers.flatMap((b) => numbers.flatMap((c) => numbers.map((d) => [a, b, c, d])))).filter((order) => new Set(order).size === 4);
  assert.equal(orders.length, 24);
  for (const order of orders) {
    let log = emptyLog("e1", 4);
    const seen: number[] = [];
    for (const seq of order.flatMap((item) => [item, item])) {
      const offered = offer(log, events(seq));
      log = offered.log;
      seen.push(...seqs(offered.applied));
    }
    assert.deepEqual(seen, numbers);
  }
});

test("what waits beyond a gap is bounded", () => {
  const many = Array.from({ length: MAX_AHEAD + 50 }, (_, index) => index + 10);
  assert.equal(offer(emptyLog("e1", 4), events(...many)).log.ahead.length, MAX_AHEAD);
});

test("the newest page goes below what came live meanwhile", () => {
  const live = offer(emptyLog("e1", 4), events(5, 6)).log;
  const log = addHistory(live, page([2, 3, 4, 5], { hasMore: true }), null);
  assert.deepEqual(seqs(log?.messages ?? []), [2, 3, 4, 5, 6]);
  assert.equal(log?.hasMore, true);
  assert.equal(log.from, 1);
});

test("a page that was read before a reset is refused, so that no hole is shown", () => {
  assert.equal(addHistory(emptyLog("e1", 500), page([51, 100], { hasMore: true }), null), null);
});

test("a page of another epoch is refused", () => {
  assert.equal(addHistory(emptyLog("e2", 4), page([3, 4], {}), null), null);
});

test("older pages are put in front until there is no more", () => {
  const newest = addHistory(emptyLog("e1", 6), page([5, 6], { hasMore: true }), null);
  assert.ok(newest);
  const all = addHistory(newest, page([1, 2, 3, 4], { hasMore: false }), 5);
  assert.deepEqual(seqs(all?.messages ?? []), [1, 2, 3, 4, 5, 6]);
  assert.equal(all?.hasMore, false);
});

test("a page newer than the log fills it up in order", () => {
  const log = addHistory(emptyLog("e1", 4), page([3, 4, 5, 6], {}), null);
  assert.equal(log?.seq, 6);
});

test("a tab that stays open keeps a bounded number of messages and knows there are older ones", () => {
  const many = Array.from({ length: MAX_KEPT + 10 }, (_, index) => index + 1);
  const log = offer(emptyLog("e1", 0), events(...many)).log;
  assert.equal(log.messages.length, MAX_KEPT);
  assert.equal(log.hasMore, true);
  assert.equal(log.from, 10);
});

test("waits double up to a bound, and jitter never halves them below half", () => {
  assert.equal(backoffMs(0, 0), 250);
  assert.equal(backoffMs(2, 0.999) <= 2000, true);
  assert.equal(backoffMs(60, 0.999) <= 15_000, true);
  assert.equal(backoffMs(60, 0), 7_500);
});

test("a client never comes back earlier than the server said", () => {
  assert.equal(spreadMs(800, 0), 800);
  assert.equal(spreadMs(800, 0.5), 900);
});
