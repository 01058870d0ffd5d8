import assert from "node:assert/strict";
import { test } from "node:test";
import { activeView } from "../src/session/state.ts";
import { ME, message, page, said } from "./samples.ts";
import { ack, chat, live, Tab } from "./tab.ts";

test("without a session the tab offers to sign in and opens nothing", () => {
  const tab = new Tab().tell({ on: "start", authError: null }).tell({ on: "signed-in", signIn: null });
  assert.equal(tab.state.auth, "signed-out");
  assert.deepEqual(tab.asked(), ["providers"]);
});

test("an SSO that does not answer is asked again later, not at once", () => {
  const tab = new Tab().tell({ on: "start", authError: null }).fails({ what: "sign-in" }, 503, "SsoUnavailable");
  assert.equal(tab.state.auth, "unavailable");
  assert.deepEqual(tab.after(100).asked(), []);
  assert.deepEqual(tab.after(1000).asked(), ["sign-in"]);
});

test("a banned account is told so and left alone", () => {
  const tab = new Tab().tell({ on: "start", authError: null }).fails({ what: "sign-in" }, 403, "Forbidden");
  assert.equal(tab.state.auth, "banned");
  assert.deepEqual(tab.after(60_000).asked(), []);
});

test("the first entry joins without a position and then loads the page below it", () => {
  const tab = new Tab().signIn().connect();
  assert.deepEqual(tab.sent(), [{ type: "room.join", requestId: "join:general", payload: { roomSlug: "general" } }]);
  tab.frame({ type: "room.joined", payload: { roomId: "r1", roomSlug: "general", roomTitle: "General", epoch: "e1", lastSeq: 4 } });
  assert.deepEqual(tab.asked(), ["history"]);
  tab.frame(ack("join:general", "room.join")).frame(chat(5));
  tab.tell({ on: "history", slug: "general", beforeSeq: null, page: page([3, 4, 5], { hasMore: true }) });
  assert.deepEqual(tab.shown(), [3, 4, 5]);
});

test("a lost socket is replaced with a growing wait and the log goes on from its position", () => {
  const tab = live().frame(chat(5)).tell({ on: "closed", code: 1006 });
  assert.equal(tab.state.joined, false);
  assert.deepEqual(tab.after(100).asked(), []);
  assert.deepEqual(tab.after(400).asked(), ["ticket"]);
  const [join] = tab.connect().sent();
  assert.deepEqual(join, { type: "room.join", requestId: "join:general", payload: { roomSlug: "general", after: { epoch: "e1", seq: 5 } } });
  tab.frame({ type: "room.joined", payload: { roomId: "r1", roomSlug: "general", roomTitle: "general", epoch: "e1", lastSeq: 7 } });
  assert.deepEqual(tab.asked(), []);
  const events = [6, 7].map((seq) => said(seq));
  tab.frame({ type: "room.delta", payload: { roomSlug: "general", epoch: "e1", fromSeq: 6, toSeq: 7, events } });
  tab.frame(ack("join:general", "room.join")).frame(chat(7)).frame(chat(8));
  assert.deepEqual(tab.shown(), [5, 6, 7, 8]);
  assert.equal(tab.state.attempt, 0);
});

test("sockets that never open are given up, and each further wait is longer", () => {
  const tab = new Tab().signIn().tell({ on: "ticket", ticket: "t" });
  tab.after(10_001);
  assert.deepEqual(tab.effects, [{ do: "close" }]);
  const waits: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    waits.push(tab.state.link.kind === "waiting" ? tab.state.link.until - tab.now : 0);
    tab.after(waits.at(-1) ?? 0).tell({ on: "ticket", ticket: "t" }).tell({ on: "closed", code: 1006 });
  }
  assert.deepEqual(waits, [375, 750, 1500]);
});

test("a draining server is left for as long as it says, not by guess", () => {
  const tab = live().frame({ type: "server.draining", payload: { retryAfterMs: 800 } });
  assert.equal(tab.state.joined, true);
  tab.tell({ on: "closed", code: 4012 });
  assert.deepEqual(tab.after(799).asked(), []);
  assert.deepEqual(tab.after(101).asked(), ["ticket"]);
});

test("a message is sent once under one key, shown as unsent, and replaced by its event", () => {
  const tab = live().tell({ on: "send", text: "hello", key: "k1" });
  assert.deepEqual(tab.sent(), [{ type: "chat.send", requestId: "k1", idempotencyKey: "k1", payload: { text: "hello" } }]);
  assert.deepEqual(tab.unsent(), ["hello: sending"]);
  tab.frame(chat(5, { userId: ME.id, text: "hello", senderRequestId: "k1" })).frame(ack("k1", "chat.send", 5));
  assert.deepEqual(tab.unsent(), []);
  assert.deepEqual(tab.shown(), [5]);
});

test("an ack that comes before its event shows the message as stored until the event is there", () => {
  const tab = live().tell({ on: "send", text: "hello", key: "k1" }).frame(ack("k1", "chat.send", 5));
  assert.deepEqual(tab.unsent(), ["hello: stored"]);
  tab.frame(chat(5, { userId: ME.id, senderRequestId: "k1" }));
  assert.deepEqual(tab.unsent(), []);
});

test("what was not acked when the socket died goes out again under the same key, in order", () => {
  const tab = live().tell({ on: "send", text: "one", key: "k1" }).tell({ on: "send", text: "two", key: "k2" });
  tab.tell({ on: "closed", code: 1006 }).tell({ on: "send", text: "three", key: "k3" }).after(500).connect();
  tab.frame({ type: "room.joined", payload: { roomId: "r1", roomSlug: "general", roomTitle: "general", epoch: "e1", lastSeq: 5 } });
  const stored = { type: "chat.message" as const, payload: message(5, { userId: ME.id, senderRequestId: "k1" }) };
  tab.frame({ type: "room.delta", payload: { roomSlug: "general", epoch: "e1", fromSeq: 5, toSeq: 5, events: [stored] } });
  tab.frame(ack("join:general", "room.join"));
  assert.deepEqual(tab.sent().map((frame) => ("requestId" in frame ? frame.requestId : null)), ["k2", "k3"]);
  assert.deepEqual(tab.unsent(), ["two: sending", "three: sending"]);
});

test("a refused message says why and waits for the person: again under the same key, or gone", () => {
  const nack = { requestId: "k1", eventType: "chat.send", code: "ServerError", message: "No.", retryable: true, retryAfterMs: null };
  const tab = live().tell({ on: "send", text: "hello", key: "k1" }).frame({ type: "nack", payload: nack });
  assert.deepEqual(tab.unsent(), ["hello: failed"]);
  assert.deepEqual(tab.tell({ on: "retry", key: "k1" }).sent().map((frame) => ("requestId" in frame ? frame.requestId : null)), ["k1"]);
  tab.frame({ type: "nack", payload: nack }).tell({ on: "discard", key: "k1" });
  assert.deepEqual(tab.unsent(), []);
});

test("a socket that owes an ack for too long is dropped", () => {
  const tab = live().tell({ on: "send", text: "hello", key: "k1" }).after(10_001);
  assert.deepEqual(tab.effects, [{ do: "close" }]);
  assert.deepEqual(tab.unsent(), ["hello: sending"]);
});

test("empty and too long texts are not sent", () => {
  assert.deepEqual(live().tell({ on: "send", text: " \n", key: "k1" }).effects, []);
  assert.deepEqual(live().tell({ on: "send", text: "я".repeat(4001), key: "k1" }).effects, []);
  assert.equal(live().tell({ on: "send", text: "😀".repeat(4000), key: "k1" }).effects.length, 1);
});

test("a silent server is a lost server", () => {
  const tab = live();
  assert.deepEqual(tab.after(62_000).effects, []);
  assert.deepEqual(tab.after(1_000).effects, [{ do: "close" }]);
});

test("a hole is filled by joining again from the position", () => {
  const tab = live().frame(chat(6));
  assert.deepEqual(tab.after(1_000).sent(), []);
  assert.deepEqual(tab.after(1_500).sent().map((frame) => frame.type), ["room.join"]);
});

test("a heartbeat with a higher top reveals a loss nothing else would show", () => {
  const tab = live().frame({ type: "server.heartbeat", payload: { rooms: [{ roomId: "r1", lastSeq: 5 }] } });
  assert.deepEqual(tab.after(2_500).sent().map((frame) => frame.type), ["room.join"]);
});

test("an event a little later than its heartbeat is no loss", () => {
  const tab = live().frame({ type: "server.heartbeat", payload: { rooms: [{ roomId: "r1", lastSeq: 5 }] } }).frame(chat(5));
  assert.deepEqual(tab.after(2_500).sent(), []);
});

test("a reset throws the drawn log away and loads it anew", () => {
  const tab = live().frame(chat(5)).frame({ type: "room.reset", payload: { roomSlug: "general", epoch: "e2", lastSeq: 900 } });
  assert.deepEqual(tab.shown(), []);
  assert.deepEqual(tab.asked(), ["history"]);
});

test("a room that is never entered does not keep the tab waiting for ever", () => {
  const tab = new Tab().signIn().connect();
  assert.deepEqual(tab.after(10_001).effects, [{ do: "close" }]);
});

test("changing rooms keeps what was unsent, and coming back goes on from the position", () => {
  const tab = live().tell({ on: "send", text: "hello", key: "k1" }).tell({ on: "choose-room", slug: "garden" });
  assert.deepEqual(tab.sent().map((frame) => frame.type), ["room.join"]);
  tab.enter(0, "garden").frame(ack("k1", "chat.send", 5)).tell({ on: "choose-room", slug: "general" });
  assert.deepEqual(tab.sent(), [{ type: "room.join", requestId: "join:general", payload: { roomSlug: "general", after: { epoch: "e1", seq: 4 } } }]);
  assert.deepEqual(tab.unsent(), ["hello: stored"]);
});

test("somebody's new message is read out; history, deltas and one's own are not", () => {
  assert.deepEqual(live().frame(chat(5)).effects.map((effect) => effect.do), ["announce"]);
  assert.deepEqual(live().frame(chat(5, { userId: ME.id })).effects, []);
  const events = [{ type: "chat.message" as const, payload: message(5) }];
  assert.deepEqual(live().frame({ type: "room.delta", payload: { roomSlug: "general", epoch: "e1", fromSeq: 5, toSeq: 5, events } }).effects, []);
});

test("presence shows everybody once, whatever order the news come in", () => {
  const tab = live();
  tab.frame({ type: "room.presence", payload: { roomId: "r1", roomSlug: "general", users: [{ userId: "u1", userName: "Ann" }] } });
  const boris = { userId: "u2", userName: "Boris", roomSlug: "general" };
  tab.frame({ type: "presence.joined", payload: boris }).frame({ type: "presence.joined", payload: boris });
  assert.deepEqual(activeView(tab.state)?.people.map(({ userName }) => userName), ["Ann", "Boris"]);
  tab.frame({ type: "presence.left", payload: boris }).frame({ type: "presence.left", payload: boris });
  assert.deepEqual(activeView(tab.state)?.people.map(({ userName }) => userName), ["Ann"]);
});

test("the token is refreshed before it ends, also while the socket lives", () => {
  const tab = live().frame(chat(5));
  tab.now += 479_000;
  tab.frame(chat(6));
  assert.deepEqual(tab.after(1_000).asked(), ["refresh"]);
  tab.tell({ on: "refreshed", signIn: { user: ME, expiresInSec: 600 } });
  assert.deepEqual(tab.after(1_000).asked(), []);
});

test("a refresh without an answer is tried again before the token ends", () => {
  const tab = live();
  tab.now += 480_000;
  tab.frame(chat(5)).after(0);
  tab.fails({ what: "refresh" }, 0);
  tab.now += 20_000;
  tab.frame(chat(6));
  assert.deepEqual(tab.after(10_000).asked(), ["refresh"]);
});

test("a refused ticket leads back to the SSO session, keeping what is on the page", () => {
  const tab = live().tell({ on: "closed", code: 1006 }).after(500).fails({ what: "ticket" }, 401, "Unauthorized");
  assert.deepEqual(tab.asked(), ["sign-in"]);
  assert.equal(tab.state.user?.name, "Ann");
});

test("an ended session closes the chat and is not signed in again behind the person's back", () => {
  const tab = live().tell({ on: "closed", code: 4009 });
  assert.equal(tab.state.auth, "signed-out");
  assert.equal(tab.state.user, null);
  assert.deepEqual(tab.state.turned, { kind: "session-ended" });
  tab.tell({ on: "providers", providers: ["google"] });
  assert.deepEqual(tab.after(60_000).effects, []);
});

test("signing out ends our session first and then the SSO's", () => {
  const tab = live().tell({ on: "sign-out" });
  assert.deepEqual(tab.asked(), ["logout"]);
  tab.tell({ on: "logged-out" });
  assert.deepEqual(tab.effects, [{ do: "close" }, { do: "go", to: { page: "sso-logout" } }]);
});

test("signing out without an answer keeps the person in and says so", () => {
  const tab = live().tell({ on: "sign-out" }).fails({ what: "logout" }, 0);
  assert.deepEqual(tab.state.notice, { kind: "logout-failed" });
  assert.equal(tab.state.user?.name, "Ann");
});

test("another person of another tab leaves nothing of the first one on the page", () => {
  const tab = live().frame(chat(5)).tell({ on: "signed-in", signIn: { user: { ...ME, id: "u9", name: "Zoe" }, expiresInSec: 600 } });
  assert.equal(tab.state.user?.name, "Zoe");
  assert.deepEqual(tab.state.views, {});
});

test("a room that is gone is left with a word, and the list of rooms is read anew", () => {
  const nack = { requestId: "join:general", eventType: "room.join", code: "RoomNotFound", message: "", retryable: false, retryAfterMs: null };
  const tab = new Tab().signIn().connect().frame({ type: "nack", payload: nack });
  assert.deepEqual(tab.state.notice, { kind: "room-gone" });
  assert.deepEqual(tab.after(500).asked(), ["rooms"]);
});
