import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import * as codec from "../src/wire/codec.ts";
import type { ClientFrame } from "../src/wire/types.ts";

// npm runs scripts in the folder of package.json, and the bundled tests lie elsewhere.
const WIRE = path.resolve(process.cwd(), "../wire");

interface Case {
  readonly name: string;
  readonly frame: { readonly type: string; readonly payload?: unknown };
  readonly means: unknown;
  readonly expect: { readonly type: string } | null;
  readonly route: string;
  readonly status: number;
  readonly body: unknown;
}

function vectors(file: string): Case[] {
  return JSON.parse(readFileSync(path.join(WIRE, file), "utf8")) as Case[];
}

/** Everything read must be what was written; a field that was left out reads as null or false. */
function sameWhereRead(read: unknown, written: unknown, where: string): void {
  if (Array.isArray(read)) {
    assert.ok(Array.isArray(written) && written.length === read.length, where);
    read.forEach((item, index) => {
      sameWhereRead(item, (written as unknown[])[index], `${where}[${index}]`);
    });
  } else if (typeof read === "object" && read !== null) {
    for (const [name, value] of Object.entries(read)) {
      // An event of the log that this client does not know keeps its place in it, under a name of our own.
      if (name === "type" && value === "unknown.durable") continue;
      sameWhereRead(value, (written as Record<string, unknown>)[name], `${where}.${name}`);
    }
  } else if (written === undefined) {
    assert.ok(read === null || read === false, `${where} came from nowhere`);
  } else {
    assert.equal(read, written, where);
  }
}

// What this client has no use for yet: it must pass over these as over events of a later version.
const PASSED_OVER = new Set([
  "call.answer",
  "call.hangup",
  "call.ice",
  "call.initial_state",
  "call.joined",
  "call.left",
  "call.mic_state",
  "call.moderate",
  "call.offer",
  "call.reject",
]);
for (const { name, frame } of vectors("server.json")) {
  test(`server frame "${name}" reads as it was written`, () => {
    const read = codec.decodeFrame(JSON.stringify(frame));
    if (PASSED_OVER.has(frame.type)) assert.equal(read, null);
    else sameWhereRead(read, frame, frame.type);
  });
}

for (const { name, frame, expect } of vectors("server-ignored.json")) {
  test(`"${name}" is accepted and means what it did without`, () => {
    const wanted = expect === null ? null : codec.decodeFrame(JSON.stringify(expect));
    assert.deepEqual(codec.decodeFrame(JSON.stringify(frame)), wanted);
  });
}

const SPOKEN = new Set(["ping", "room.join", "room.leave", "room.read", "chat.send", "chat.edit", "chat.delete", "chat.typing"]);
for (const { name, means } of vectors("client-valid.json").filter(({ means }) => SPOKEN.has((means as { type: string }).type))) {
  test(`"${name}" leaves the client as the server understands it`, () => {
    assert.deepEqual(JSON.parse(codec.encodeFrame(means as ClientFrame)), means);
  });
}

const READERS: Record<string, (body: unknown) => unknown> = {
  "GET /v1/auth/mode": codec.readProviders,
  "GET /v1/auth/sso/session": codec.readSignIn,
  "GET /v1/auth/ws-ticket": codec.readTicket,
  "GET /v1/rooms": codec.readRooms,
  "GET /v1/rooms/{slug}/messages": codec.readHistory,
};
// Health has a shape of its own, also when it is bad, and this client does not ask for it.
const api = vectors("http.json").filter(({ route }) => route.includes(" /v1/"));
for (const { name, route, status, body } of api.filter(({ route, status }) => status >= 400 || route in READERS)) {
  test(`the HTTP answer "${name}" can be read`, () => {
    if (status >= 400) sameWhereRead(codec.readError(body), body, name);
    else assert.notEqual(READERS[route]?.(body), undefined);
  });
}

test("rows of the history read like messages of the socket", () => {
  const history = vectors("http.json").find(({ name }) => name === "history");
  const live = vectors("server.json").find(({ name }) => name === "a message sent without a request id");
  assert.deepEqual(codec.readHistory(history?.body).messages[0], codec.decodeFrame(JSON.stringify(live?.frame))?.payload);
});

test("a row of the history that was edited says when", () => {
  const history = vectors("http.json").find(({ name }) => name === "history with an edited message");
  assert.equal(codec.readHistory(history?.body).messages[0]?.editedAt, "2026-01-02T03:04:05.678Z");
});

test("every kind of durable event is known by name, also inside a delta", () => {
  const delta = vectors("server.json").find(({ name }) => name === "every kind of event was missed");
  const read = codec.decodeFrame(JSON.stringify(delta?.frame));
  assert.ok(read?.type === "room.delta");
  assert.deepEqual(read.payload.events.map(({ type }) => type), ["chat.message", "chat.edited", "chat.deleted", "member.joined", "member.left"]);
});

test("a server may name its providers, or leave them to the contract's", () => {
  assert.deepEqual(codec.readProviders({ mode: "sso", ssoBaseUrl: "https://sso.example", providers: ["google", "corp"] }), ["google", "corp"]);
  assert.equal(codec.readProviders({ mode: "sso", ssoBaseUrl: "https://sso.example" }), null);
  assert.throws(() => codec.readProviders({ providers: [7] }), codec.WireError);
});

test("nobody signed in is not an error", () => {
  assert.equal(codec.readSignIn({ authenticated: false, user: null, token: null }), null);
});

test("a known frame with a wrong or missing field is refused by name", () => {
  const broken = { type: "chat.message", payload: { id: "m1", roomId: "r0", roomSlug: "general", userId: "u1", userName: "Ann", text: "x", createdAt: "", seq: "8", epoch: "e1" } };
  assert.throws(() => codec.decodeFrame(JSON.stringify(broken)), new codec.WireError("seq: not a whole number"));
  assert.throws(() => codec.decodeFrame('{"type":"server.draining","payload":{}}'), codec.WireError);
});

test("what is not a frame at all is refused", () => {
  for (const raw of ["", "[]", "7", "null", '{"payload":{}}', '{"type":7}']) assert.throws(() => codec.decodeFrame(raw), codec.WireError, raw);
});

test("an unknown event that takes a place in the log is counted", () => {
  const frame = { type: "chat.pinned", payload: { roomId: "r0", seq: 9, epoch: "e1", by: "u1" } };
  assert.deepEqual(codec.decodeFrame(JSON.stringify(frame)), { type: "unknown.durable", payload: { roomId: "r0", seq: 9, epoch: "e1" } });
});

test("a type named like a property of every object is just unknown", () => {
  assert.equal(codec.decodeFrame('{"type":"constructor","payload":{}}'), null);
});

test("an error body of somebody else is a plain error worth a retry", () => {
  assert.deepEqual(codec.readError("<html>"), { error: "ServerError", message: "", retryable: true });
});
