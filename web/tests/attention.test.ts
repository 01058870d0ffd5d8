import assert from "node:assert/strict";
import { test } from "node:test";
import { activeView } from "../src/session/state.ts";
import { deleted, member, ME, page, room, said } from "./samples.ts";
import { ack, chat, live, Tab } from "./tab.ts";

const reads = (tab: Tab) => tab.sent().flatMap((frame) => (frame.type === "room.read" ? frame.payload.seq : []));
const look = (tab: Tab) => tab.tell({ on: "attention", visible: true, focused: true });
const away = (tab: Tab) => tab.tell({ on: "attention", visible: true, focused: false });
const quiet = () => live().history(page([3, 4], {}));
const typing = (userId: string, userName: string) => ({ type: "chat.typing" as const, payload: { userId, userName, roomSlug: "general" } });
const typists = (tab: Tab) => (activeView(tab.state)?.typing ?? []).map(({ userName }) => userName);

test("a room that is looked at is read, and the server hears of it at once", () => {
  assert.deepEqual(reads(look(quiet())), [4]);
});

test("read pointers of a fast conversation are put together", () => {
  const tab = look(quiet());
  assert.deepEqual([5, 6, 7].flatMap((seq) => reads(tab.frame(chat(seq)))), []);
  assert.deepEqual(reads(tab.after(999)), []);
  assert.deepEqual(reads(tab.after(1)), [7]);
  assert.deepEqual(reads(tab.after(5_000)), []);
});

test("what comes while nobody looks, or above which somebody reads, is unread", () => {
  const tab = away(look(quiet())).frame(chat(5)).frame(chat(6, { userId: ME.id })).frame(chat(7));
  assert.equal(tab.unread("general"), 2);
  look(tab).after(1_000);
  assert.equal(tab.unread("general"), 0);
  tab.tell({ on: "scrolled", atEnd: false }).frame(chat(8));
  assert.equal(tab.unread("general"), 1);
  assert.deepEqual(reads(tab.after(2_000)), []);
  tab.tell({ on: "scrolled", atEnd: true });
  assert.equal(tab.unread("general"), 0);
});

test("an unread message that is deleted is not unread any more; a read one changes nothing", () => {
  const tab = away(look(quiet())).frame(chat(5)).frame(chat(6));
  tab.frame(deleted(7, "m3"));
  assert.equal(tab.unread("general"), 2);
  tab.frame(deleted(8, "m5"));
  assert.equal(tab.unread("general"), 1);
});

test("a delete that the list of rooms has counted already is not counted again", () => {
  const tab = away(look(quiet())).frame(chat(5)).frame(chat(6));
  tab.tell({ on: "unread", rooms: [{ ...room("general", "r1"), unread: 1, lastSeq: 7 }, room("garden", "r2")] });
  assert.equal(tab.frame(deleted(7, "m6")).unread("general"), 1);
});

test("membership takes a place in the log and makes nothing unread", () => {
  const tab = quiet().frame(member(5, "member.joined")).frame(member(6, "member.left")).frame(chat(7));
  assert.equal(tab.unread("general"), 1);
  assert.deepEqual(tab.shown(), [3, 4, 7]);
});

test("a pointer the server had no time for is told again", () => {
  const tab = look(quiet()).nack("read:general", "room.read", "RateLimited", 300);
  assert.deepEqual(reads(tab.after(1_299)), []);
  assert.deepEqual(reads(tab.after(1)), [4]);
});

test("a new socket is told how far the room is read", () => {
  const tab = look(quiet()).tell({ on: "closed", code: 1006 }).after(500).connect();
  assert.deepEqual(reads(tab.enter(4)), []);
  assert.deepEqual(reads(tab.after(600)), [4]);
});

test("what another tab has read is read here, as far as it has read", () => {
  const tab = away(quiet()).frame(chat(5)).frame(chat(6));
  tab.frame({ type: "room.read", payload: { roomSlug: "general", seq: 5 } });
  assert.equal(tab.unread("general"), 1);
  tab.frame({ type: "room.read", payload: { roomSlug: "general", seq: 6 } });
  assert.equal(tab.unread("general"), 0);
});

test("a room of the list that another tab has read to its end loses its badge without a question", () => {
  const tab = quiet().tell({ on: "unread", rooms: [room("general", "r1"), { ...room("garden", "r2"), unread: 3, lastSeq: 9 }] });
  tab.frame({ type: "room.read", payload: { roomSlug: "garden", seq: 9 } });
  assert.equal(tab.unread("garden"), 0);
  assert.deepEqual(tab.asked(), []);
  tab.tell({ on: "unread", rooms: [room("general", "r1"), { ...room("garden", "r2"), unread: 3, lastSeq: 9 }] });
  assert.deepEqual(tab.frame({ type: "room.read", payload: { roomSlug: "garden", seq: 8 } }).asked(), ["unread"]);
});

test("the counts of other rooms are asked for on coming back, every half minute in sight, and never out of sight", () => {
  const tab = quiet();
  assert.deepEqual(tab.after(20_000).asked(), []);
  assert.deepEqual(look(tab).asked(), ["unread"]);
  away(tab);
  assert.deepEqual(look(tab).asked(), []);
  assert.deepEqual(tab.after(29_999).asked(), []);
  tab.frame(chat(5));
  assert.deepEqual(tab.after(1).asked(), ["unread"]);
  tab.tell({ on: "attention", visible: false, focused: false }).frame(chat(6));
  assert.deepEqual(tab.after(40_000).asked(), []);
});

test("the counts are asked for after a reconnect", () => {
  const tab = quiet().tell({ on: "closed", code: 1006 }).after(5_000).connect();
  assert.deepEqual(tab.enter(4).asked(), ["unread"]);
});

test("a list of rooms that is older than the log does not undo what the tab knows", () => {
  const old = [{ ...room("general", "r1"), unread: 2, lastSeq: 4 }, room("garden", "r2")];
  const tab = look(quiet());
  away(tab).frame(chat(5)).tell({ on: "unread", rooms: old });
  assert.equal(tab.unread("general"), 1);
  assert.equal(tab.frame(chat(6)).unread("general"), 2);
});

test("counts that nobody could answer stay, and the connection with them", () => {
  const tab = look(quiet()).fails({ what: "unread" }, 0);
  assert.equal(tab.state.joined, true);
});

test("typing is told every two seconds, not with every key, and only in a room", () => {
  const tab = quiet();
  const told = () => tab.tell({ on: "typing" }).sent().map(({ type }) => type);
  assert.deepEqual([told(), told()], [["chat.typing"], []]);
  tab.now += 2_000;
  assert.deepEqual(told(), ["chat.typing"]);
  tab.tell({ on: "closed", code: 1006 }).now += 2_000;
  assert.deepEqual(told(), []);
});

test("those who type are named once each, and forgotten when they send, go, or stop", () => {
  const tab = quiet().frame(typing("u2", "Boris")).frame(typing("u3", "Vera")).frame(typing("u2", "Boris"));
  assert.deepEqual(typists(tab), ["Vera", "Boris"]);
  assert.deepEqual(typists(tab.frame(chat(5))), ["Vera"]);
  tab.frame({ type: "presence.left", payload: { userId: "u3", userName: "Vera", roomSlug: "general" } });
  assert.deepEqual(typists(tab), []);
  tab.frame(typing("u3", "Vera")).after(4_999);
  assert.deepEqual(typists(tab), ["Vera"]);
  assert.deepEqual(typists(tab.after(1)), []);
});

test("whoever is removed is told so, and nothing of the room stays on the page", () => {
  const tab = look(quiet()).frame(member(5, "member.left", ME.id)).frame({ type: "room.left", payload: { roomSlug: "general" } });
  assert.deepEqual(tab.state.notice, { kind: "removed", room: "general" });
  assert.equal(tab.state.active, null);
  assert.equal(JSON.stringify(tab.state).includes("text 4"), false);
  assert.deepEqual(tab.asked(), ["unread"]);
  assert.deepEqual(tab.after(11_000).effects, []);
  const [join] = tab.tell({ on: "choose-room", slug: "garden" }).sent();
  assert.equal(join?.type, "room.join");
  assert.equal(tab.state.notice, null);
});

test("a private room one is removed from is not in the list any more", () => {
  const tab = new Tab().signIn();
  tab.tell({ on: "rooms", rooms: [{ ...room("general", "r1"), isPublic: false }, room("garden", "r2")] });
  tab.connect().enter(4).frame({ type: "room.left", payload: { roomSlug: "general" } });
  assert.deepEqual(tab.state.rooms.map(({ slug }) => slug), ["garden"]);
});

test("a failed sign-in is said at the gate, and forgotten once somebody is in", () => {
  const tab = new Tab().tell({ on: "start", authError: "access_denied" }).tell({ on: "signed-in", signIn: null });
  assert.deepEqual(tab.state.turned, { kind: "auth-error", code: "access_denied" });
  tab.tell({ on: "signed-in", signIn: { user: ME, expiresInSec: 600 } });
  assert.equal(tab.state.turned, null);
});

test("the gate offers what the server names, and asks again when it does not say", () => {
  const tab = new Tab().tell({ on: "start", authError: null }).tell({ on: "signed-in", signIn: null });
  tab.fails({ what: "providers" }, 0);
  assert.deepEqual(tab.after(100).asked(), []);
  assert.deepEqual(tab.after(1_000).asked(), ["providers"]);
  assert.deepEqual(tab.tell({ on: "providers", providers: ["corp"] }).state.providers, ["corp"]);
  assert.deepEqual(tab.tell({ on: "providers", providers: null }).state.providers, ["google", "yandex"]);
});

test("a ban on an open socket is said as one", () => {
  const tab = look(quiet()).tell({ on: "closed", code: 4003 });
  assert.equal(tab.state.auth, "banned");
  assert.equal(tab.state.focused, true);
  assert.deepEqual(tab.state.views, {});
});

test("a delta counts what was missed as unread", () => {
  const tab = away(look(quiet())).tell({ on: "closed", code: 1006 }).after(500).connect();
  tab.frame({ type: "room.joined", payload: { roomId: "r1", roomSlug: "general", roomTitle: "general", epoch: "e1", lastSeq: 7 } });
  const events = [said(5), said(6, { text: "" }), deleted(7, "m6")];
  tab.frame({ type: "room.delta", payload: { roomSlug: "general", epoch: "e1", fromSeq: 5, toSeq: 7, events } }).frame(ack("join:general", "room.join"));
  assert.equal(tab.unread("general"), 1);
});
