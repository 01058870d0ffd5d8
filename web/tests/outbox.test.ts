import assert from "node:assert/strict";
import { test } from "node:test";
import { activeView } from "../src/session/state.ts";
import { deleted, edited, page, said } from "./samples.ts";
import { ME } from "./samples.ts";
import { ack, live, type Tab } from "./tab.ts";

const keys = (tab: Tab) => tab.sent().map((frame) => ("requestId" in frame ? frame.requestId : null));
const texts = (tab: Tab) => (activeView(tab.state)?.log?.messages ?? []).map(({ text }) => text);
/** A tab whose own message "m5" is the newest. */
const spoken = () => live().history(page([3, 4], {})).frame(said(5, { userId: ME.id }));

test("an edit goes out once under one key, and leaves the outbox when the log has it", () => {
  const tab = spoken().tell({ on: "edit", messageId: "m5", text: "better", key: "k1" });
  assert.deepEqual(tab.sent(), [{ type: "chat.edit", requestId: "k1", idempotencyKey: "k1", payload: { messageId: "m5", text: "better" } }]);
  tab.frame(edited(6, "m5", "better")).frame(ack("k1", "chat.edit", 6));
  assert.deepEqual(tab.unsent(), []);
  assert.deepEqual(texts(tab), ["text 3", "text 4", "better"]);
});

test("an edit that was acked before its event came is stored until the event is there", () => {
  const tab = spoken().tell({ on: "edit", messageId: "m5", text: "better", key: "k1" }).frame(ack("k1", "chat.edit", 6));
  assert.deepEqual(tab.unsent(), ["better: stored"]);
  assert.deepEqual(tab.frame(edited(6, "m5", "better")).unsent(), []);
});

test("a delete takes the message and its text away", () => {
  const tab = spoken().tell({ on: "delete", messageId: "m5", key: "k1" });
  assert.deepEqual(tab.sent(), [{ type: "chat.delete", requestId: "k1", idempotencyKey: "k1", payload: { messageId: "m5" } }]);
  tab.frame(deleted(6, "m5")).frame(ack("k1", "chat.delete", 6));
  assert.deepEqual(tab.unsent(), []);
  assert.equal(JSON.stringify(tab.state).includes("text 5"), false);
});

test("a change without an answer goes out again after a reconnect, in its place among the messages", () => {
  const tab = spoken().tell({ on: "send", text: "one", key: "k1" }).tell({ on: "edit", messageId: "m5", text: "better", key: "k2" });
  tab.tell({ on: "closed", code: 1006 }).tell({ on: "delete", messageId: "m5", key: "k3" });
  assert.deepEqual(keys(tab), []);
  tab.after(500).connect();
  assert.deepEqual(keys(tab.enter(5)), ["k1", "k2", "k3"]);
});

test("a change that comes too late says so and keeps what was written", () => {
  const tab = spoken().tell({ on: "edit", messageId: "m5", text: "better", key: "k1" }).nack("k1", "chat.edit", "EditWindowExpired");
  assert.deepEqual(tab.unsent(), ["better: failed"]);
  assert.equal(activeView(tab.state)?.pending[0]?.reason?.code, "EditWindowExpired");
  assert.deepEqual(tab.tell({ on: "discard", key: "k1" }).unsent(), []);
});

test("a message that is to be deleted and is not there any more is a wish come true", () => {
  const tab = spoken().tell({ on: "delete", messageId: "m5", key: "k1" }).nack("k1", "chat.delete", "MessageNotFound");
  assert.deepEqual(tab.unsent(), []);
});

test("an empty text is no edit", () => {
  assert.deepEqual(spoken().tell({ on: "edit", messageId: "m5", text: " ", key: "k1" }).effects, []);
});

test("a limit is waited out, without the person, and not shorter than the server said", () => {
  const tab = live().tell({ on: "send", text: "one", key: "k1" }).nack("k1", "chat.send", "RateLimited", 1_200);
  assert.deepEqual(tab.unsent(), ["one: sending"]);
  assert.notEqual(activeView(tab.state)?.pending[0]?.notBefore, null);
  assert.deepEqual(keys(tab.after(1_199)), []);
  assert.deepEqual(keys(tab.after(1)), ["k1"]);
  assert.equal(activeView(tab.state)?.pending[0]?.notBefore, null);
});

test("behind a limit everything goes one by one, and nothing overtakes", () => {
  const tab = live();
  for (const key of ["k1", "k2", "k3"]) tab.tell({ on: "send", text: key, key });
  tab.nack("k1", "chat.send", "RateLimited", 500).nack("k2", "chat.send", "RateLimited", 400).nack("k3", "chat.send", "RateLimited", 300);
  assert.deepEqual(keys(tab.tell({ on: "send", text: "k4", key: "k4" })), []);
  assert.deepEqual(keys(tab.after(450)), []);
  assert.deepEqual(keys(tab.after(50)), ["k1"]);
  assert.deepEqual(keys(tab.after(500)), []);
  const gone: (string | null)[] = [];
  for (const [key, seq] of [["k1", 5], ["k2", 6], ["k3", 7], ["k4", 8]] as const) {
    gone.push(...keys(tab.frame(said(seq, { userId: ME.id, senderRequestId: key })).frame(ack(key, "chat.send", seq))));
  }
  assert.deepEqual(gone, ["k2", "k3", "k4"]);
  assert.deepEqual(tab.unsent(), []);
});

test("a limit does not outlive the socket it was for", () => {
  const tab = live().tell({ on: "send", text: "one", key: "k1" }).nack("k1", "chat.send", "RateLimited", 60_000);
  tab.tell({ on: "closed", code: 1006 }).after(500).connect();
  assert.deepEqual(keys(tab.enter(4)), ["k1"]);
});
