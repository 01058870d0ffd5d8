// What both Node peers share: HTTP for tickets, the sockets, and the protocol of the rooms server.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { caller, counters, delta, enter, findRoom, openPool, putTicket, takeTicket } from "./store.mjs";

const PATH = "/v1/realtime/ws";
const MAX_FRAME = 64 * 1024;
const MAX_TEXT = 4000;
const MAX_ID = 128;
const MAX_DELTA = 300;
const HEARTBEAT_MS = 25_000;
// A drained or cut crowd comes back all at once.
const BACKLOG = 2048;

export const encode = (type, payload) => JSON.stringify({ type, payload });

export const ack = (request, more) =>
  encode("ack", { requestId: request.requestId, eventType: request.type, ts: new Date().toISOString(), ...more });

export const nack = (request, code, message, retryable = false) =>
  encode("nack", {
    requestId: request.requestId, eventType: request.type, code, message, retryable, ts: new Date().toISOString(),
  });

/** The ack of a stored (or repeated) message. */
export const stored = (said, event, duplicate) =>
  ack(said.request, {
    messageId: event.id, seq: event.seq, idempotencyKey: said.request.idempotencyKey,
    ...(duplicate ? { duplicate: true } : {}),
  });

/** The answer to a repeated key: the first message to its sender, or a conflict. */
export const repeated = (said, first) =>
  first.text === said.text
    ? [encode("chat.message", first), stored(said, first, true)]
    : [nack(said.request, "IdempotencyConflict", "The idempotency key was used with another text.")];

/** The wire form of a message just stored: all but its seq is known here. */
export const eventOf = (said, seq) => ({
  id: said.id, roomId: said.room.id, roomSlug: said.room.slug, userId: said.user.id, userName: said.user.name,
  text: said.text, createdAt: said.createdAt.toISOString(), seq, epoch: said.room.epoch,
  senderRequestId: said.request.requestId ?? null,
});

/** The wire form of a row. */
export const eventOfRow = (room, row) => ({
  id: row.id, roomId: room.id, roomSlug: room.slug, userId: row.user_id, userName: row.user_name, text: row.text,
  createdAt: row.created_at.toISOString(), seq: row.seq, epoch: room.epoch, senderRequestId: row.request_id,
});

/** A room in memory: its sockets, those that are still being told what they missed, and who is present. */
class Room {
  constructor(row) {
    Object.assign(this, row);
    this.sockets = new Set();
    this.joining = new Map(); // ws -> live events that wait: [{ seq, text }]
    this.people = new Map(); // user id -> { userId, userName, sockets }
    this.delivered = row.last_seq; // what is committed beyond it is still on its way to the sockets
  }

  come(user) {
    const person = this.people.get(user.id);
    if (person) person.sockets += 1;
    else this.people.set(user.id, { userId: user.id, userName: user.name, sockets: 1 });
    return !person;
  }

  go(user) {
    const person = this.people.get(user.id);
    person.sockets -= 1;
    if (person.sockets === 0) this.people.delete(user.id);
    return person.sockets === 0;
  }

  /** A durable event went out: whoever is joining gets it after what they missed. */
  hold(seq, text) {
    this.delivered = seq;
    for (const waiting of this.joining.values()) waiting.push({ seq, text });
  }
}

/**
 * Serve the protocol on a free loopback port until SIGTERM.
 *
 * `makeFanout(pool)` answers `publish(room, text)` (to all sockets of a room, droppable), `admit(room, ws)` (live from
 * now on) and `say(said)`, called with {ws, request, room, user, text, id, createdAt} for every well-formed chat.send;
 * it stores, delivers to `room.sockets`, calls `room.hold` and acks.
 */
export async function serve(makeFanout) {
  const pool = await openPool();
  const fanout = await makeFanout(pool);
  const rooms = new Map();
  const wss = new WebSocketServer({
    noServer: true, maxPayload: MAX_FRAME, perMessageDeflate: false, clientTracking: false,
  });
  const http = createServer((request, response) => {
    answer(pool, request, response).catch(() => response.writeHead(500).end());
  });
  http.on("upgrade", async (request, socket, head) => {
    const url = new URL(request.url, "http://localhost");
    if (url.pathname !== PATH) return socket.destroy();
    let user;
    try {
      user = await takeTicket(pool, url.searchParams.get("ticket"));
    } catch {
      return socket.destroy();
    }
    return wss.handleUpgrade(request, socket, head, (ws) => {
      if (user) welcome(ws, user);
      else ws.close(4002, "InvalidTicket");
    });
  });

  function welcome(ws, user) {
    ws.user = user;
    ws.room = null;
    ws.on("close", () => leave(ws));
    ws.on("error", () => ws.terminate());
    ws.on("message", (data) => received(ws, data));
    ws.send(encode("server.ready", {
      userId: user.id, userName: user.name, connectedAt: new Date().toISOString(), connectionId: randomUUID(),
      heartbeatMs: HEARTBEAT_MS,
    }));
  }

  function received(ws, data) {
    const request = parse(data);
    if (request === undefined) {
      ws.send(encode("error", { code: "ValidationError", message: "The frame is not a request." }));
      return;
    }
    const handler = handlers[request.type];
    if (handler) handler(ws, request);
    else ws.send(nack(request, "UnknownEvent", "This server does not know the event type."));
  }

  const handlers = {
    ping: (ws, request) => {
      ws.send(encode("pong", { ts: new Date().toISOString() }));
      if (request.requestId) ws.send(ack(request));
    },
    "room.join": (ws, request) => {
      join(ws, request).catch(() => {
        ws.room?.joining.delete(ws);
        ws.send(nack(request, "ServerError", "Try again.", true));
      });
    },
    "chat.send": (ws, request) => {
      const text = request.payload?.text;
      if (typeof text !== "string" || text.length < 1 || text.length > MAX_TEXT) {
        ws.send(nack(request, "ValidationError", "payload.text must have 1 to 4000 characters."));
      } else if (!ws.room) {
        ws.send(nack(request, "NoActiveRoom", "Join a room first."));
      } else {
        fanout.say({ ws, request, room: ws.room, user: ws.user, text, id: randomUUID(), createdAt: new Date() });
      }
    },
  };

  async function roomBySlug(slug) {
    if (!rooms.has(slug)) {
      const row = await findRoom(pool, slug);
      if (row && !rooms.has(slug)) rooms.set(slug, new Room(row));
    }
    return rooms.get(slug);
  }

  async function join(ws, request) {
    const { roomSlug, after } = request.payload ?? {};
    const room = await roomBySlug(roomSlug);
    const missing = () => ws.send(nack(request, "RoomNotFound", "There is no such room."));
    if (!room) return missing();
    leave(ws);
    // From here on nothing is missed: what is committed before the look is in it, what comes after it waits here.
    room.joining.set(ws, []);
    const lastSeq = await enter(pool, room, ws.user);
    if (lastSeq === undefined) {
      room.joining.delete(ws);
      return missing();
    }
    const rows = after?.epoch === room.epoch ? await delta(pool, room, after.seq, MAX_DELTA + 1) : [];
    const waiting = room.joining.get(ws);
    room.joining.delete(ws);
    if (!waiting || ws.readyState !== ws.OPEN) return undefined;
    // An event may be found in the database before its own transaction is answered here: it comes live then.
    const top = Math.min(Math.max(lastSeq, rows.at(-1)?.seq ?? 0), room.delivered);
    const where = { roomId: room.id, roomSlug: room.slug };
    if (room.come(ws.user)) {
      const who = { userId: ws.user.id, userName: ws.user.name, roomSlug: room.slug };
      fanout.publish(room, encode("presence.joined", { ...who, presenceCount: room.people.size }));
    }
    const users = [...room.people.values()].map(({ userId, userName }) => ({ userId, userName }));
    const frames = [
      encode("room.joined", { ...where, roomTitle: room.title, epoch: room.epoch, lastSeq: top }),
      ...(after ? [missed(room, after, rows, top)] : []),
      encode("room.presence", { ...where, users }),
      ack(request, where),
      ...waiting.filter(({ seq }) => seq > top).map(({ text }) => text),
    ];
    // One write for all of them.
    ws._socket.cork();
    for (const frame of frames) ws.send(frame);
    ws._socket.uncork();
    ws.room = room;
    return fanout.admit(room, ws);
  }

  function missed(room, after, rows, top) {
    const { slug: roomSlug, epoch } = room;
    if (after.epoch !== epoch || rows.length > MAX_DELTA) return encode("room.reset", { roomSlug, epoch, lastSeq: top });
    const events = rows
      .filter(({ seq }) => seq <= top)
      .map((row) => ({ type: "chat.message", payload: eventOfRow(room, row) }));
    return encode("room.delta", { roomSlug, epoch, fromSeq: after.seq + 1, toSeq: top, events });
  }

  function leave(ws) {
    const { room, user } = ws;
    for (const each of rooms.values()) each.joining.delete(ws);
    if (!room) return;
    ws.room = null;
    room.sockets.delete(ws);
    if (room.go(user)) {
      const who = { userId: user.id, userName: user.name, roomSlug: room.slug, presenceCount: room.people.size };
      fanout.publish(room, encode("presence.left", who));
    }
  }

  setInterval(() => {
    for (const room of rooms.values()) fanout.publish(room, encode("server.heartbeat", { rooms: [] }));
  }, HEARTBEAT_MS).unref();
  http.listen({ port: 0, host: "127.0.0.1", backlog: BACKLOG }, () => {
    process.stderr.write(`${JSON.stringify({ event: "listening", port: http.address().port })}\n`);
  });
  process.on("SIGTERM", () => process.exit(0));
  // So that memory is measured without garbage (node --expose-gc).
  process.on("SIGUSR2", () => globalThis.gc?.());
}

async function answer(pool, request, response) {
  if (request.url === "/v1/auth/ws-ticket") {
    const who = await caller(pool, request.headers.authorization);
    if (!who) return json(response, 401, { error: "Unauthorized" });
    return json(response, 200, await putTicket(pool, who));
  }
  if (request.url === "/metrics") {
    response.writeHead(200, { "content-type": "text/plain" });
    return response.end(`# TYPE peer_log_reads_total counter\npeer_log_reads_total ${counters.logReads}\n`);
  }
  return json(response, 404, { error: "NotFound" });
}

function json(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}

function parse(data) {
  let request;
  try {
    request = JSON.parse(data);
  } catch {
    return undefined;
  }
  const isId = (value) => value === undefined || (typeof value === "string" && value.length <= MAX_ID);
  const fits = typeof request?.type === "string" && isId(request.requestId) && isId(request.idempotencyKey);
  return fits ? request : undefined;
}
