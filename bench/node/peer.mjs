// What both Node peers share: the sockets, the protocol of the rooms server, and the schema.
//
// The identity is the `user` in the address: signing in is not measured.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import pg from "pg";
import { WebSocketServer } from "ws";

const MAX_FRAME = 64 * 1024;
const MAX_TEXT = 4000;
const MAX_ID = 128;

export const SCHEMA = `
  CREATE TABLE IF NOT EXISTS rooms (
    id text PRIMARY KEY, slug text UNIQUE NOT NULL, title text NOT NULL, epoch text NOT NULL, last_seq bigint NOT NULL
  );
  CREATE TABLE IF NOT EXISTS events (
    room_id text NOT NULL REFERENCES rooms, seq bigint NOT NULL, kind text NOT NULL, id text UNIQUE NOT NULL,
    user_id text NOT NULL, text text NOT NULL, request_id text, idempotency_key text, created_at timestamptz NOT NULL,
    PRIMARY KEY (room_id, seq)
  );
  CREATE UNIQUE INDEX IF NOT EXISTS events_key ON events (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;`;

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

/** The wire form of a row; bigints come from the driver as text. */
export const eventOf = (room, row) => ({
  id: row.id, roomId: room.id, roomSlug: room.slug, userId: row.user_id, userName: row.user_id, text: row.text,
  createdAt: new Date(row.created_at).toISOString(), seq: Number(row.seq), epoch: room.epoch,
  senderRequestId: row.request_id,
});

/**
 * Serve the protocol on a free loopback port until SIGTERM.
 *
 * `makeChat(pool, room, sockets)` answers `say(said)`, called with {ws, request, text, userId, id, createdAt} for
 * every well-formed chat.send; it stores, delivers to `sockets` and acks.
 */
export async function serve(makeChat) {
  const pool = new pg.Pool({ max: 4 });
  await pool.query(SCHEMA);
  await pool.query("INSERT INTO rooms VALUES ($1, 'general', 'General', $2, 0) ON CONFLICT DO NOTHING", [
    randomUUID(), randomUUID(),
  ]);
  const found = await pool.query("SELECT id, slug, title, epoch FROM rooms WHERE slug = 'general'");
  const room = found.rows[0];
  const sockets = new Set();
  const chat = makeChat(pool, room, sockets);

  const handlers = {
    ping: (ws, request) => {
      ws.send(encode("pong", { ts: new Date().toISOString() }));
      if (request.requestId) ws.send(ack(request));
    },
    "room.join": async (ws, request) => {
      const top = await pool.query("SELECT last_seq FROM rooms WHERE id = $1", [room.id]);
      sockets.add(ws);
      const where = { roomId: room.id, roomSlug: room.slug };
      ws.send(encode("room.joined", {
        ...where, roomTitle: room.title, epoch: room.epoch, lastSeq: Number(top.rows[0].last_seq),
      }));
      ws.send(encode("room.presence", { ...where, users: [] }));
      ws.send(ack(request, where));
    },
    "chat.send": (ws, request, userId) => {
      const text = request.payload?.text;
      if (typeof text !== "string" || text.length < 1 || text.length > MAX_TEXT) {
        ws.send(nack(request, "ValidationError", "payload.text must have 1 to 4000 characters."));
      } else if (!sockets.has(ws)) {
        ws.send(nack(request, "NoActiveRoom", "Join a room first."));
      } else {
        chat.say({ ws, request, text, userId, id: randomUUID(), createdAt: new Date() });
      }
    },
  };

  const http = createServer((_request, response) => response.writeHead(404).end());
  const wss = new WebSocketServer({ server: http, path: "/v1/realtime/ws", maxPayload: MAX_FRAME });
  wss.on("connection", (ws, upgrade) => {
    const userId = new URL(upgrade.url, "http://localhost").searchParams.get("user") ?? "nobody";
    ws.on("close", () => sockets.delete(ws));
    ws.on("error", () => ws.terminate());
    ws.on("message", (data) => {
      const request = parse(data);
      if (request === undefined) {
        ws.send(encode("error", { code: "ValidationError", message: "The frame is not a request." }));
        return;
      }
      const handler = handlers[request.type];
      if (handler) handler(ws, request, userId);
      else ws.send(nack(request, "UnknownEvent", "This server does not know the event type."));
    });
    ws.send(encode("server.ready", {
      userId, userName: userId, connectedAt: new Date().toISOString(), connectionId: randomUUID(), heartbeatMs: 25000,
    }));
  });
  http.listen(0, "127.0.0.1", () => {
    process.stderr.write(`${JSON.stringify({ event: "listening", port: http.address().port })}\n`);
  });
  process.on("SIGTERM", () => process.exit(0));
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
