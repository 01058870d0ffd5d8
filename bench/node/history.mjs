// The history page of a room by Fastify and PostgreSQL: session checked, statements prepared, answer by a schema.
import { createVerifier } from "fast-jwt";
import Fastify from "fastify";
import { openPool } from "./store.mjs";

const SESSION = {
  name: "session",
  text: `SELECT u.id FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE s.id = $1 AND s.user_id = $2 AND s.generation = $3 AND s.revoked_at IS NULL AND s.expires_at > now()
      AND NOT u.banned`,
};
const ROOM = {
  name: "history-room",
  text: `SELECT id, slug, title, is_public, created_at, epoch, last_seq FROM rooms r WHERE slug = $1
    AND (is_public OR EXISTS (SELECT FROM members m WHERE m.room_id = r.id AND m.user_id = $2))`,
};
// One more than asked for tells whether there are older ones.
const PAGE = {
  name: "page",
  text: `SELECT e.id, e.room_id, e.user_id, e.user_name, e.text, e.created_at, e.seq FROM events e
    WHERE e.room_id = (SELECT id FROM rooms WHERE slug = $1) AND e.kind = 'message' AND e.seq < $2
    ORDER BY e.seq DESC LIMIT $3`,
};
const NEWEST = Number.MAX_SAFE_INTEGER;

const text = { type: "string" };
const integer = { type: "integer" };
const row = (properties) => ({ type: "object", properties });
const ANSWER = row({
  room: row({ id: text, slug: text, title: text, is_public: { type: "boolean" }, created_at: text }),
  messages: {
    type: "array",
    items: row({
      id: text, room_id: text, user_id: text, user_name: text, text, created_at: text,
      edited_at: { type: "string", nullable: true }, seq: integer,
    }),
  },
  pagination: row({
    hasMore: { type: "boolean" },
    nextCursor: { ...row({ beforeCreatedAt: text, beforeId: text, beforeSeq: integer }), nullable: true },
  }),
  epoch: text,
  lastSeq: integer,
});
const ASKED = {
  type: "object",
  properties: {
    limit: { type: "integer", minimum: 1, maximum: 100, default: 50 },
    beforeSeq: { type: "integer", minimum: 1, maximum: NEWEST },
  },
};

const verify = createVerifier({ key: process.env.PEER_JWT_SECRET, algorithms: ["HS256"], cache: true });
const pool = await openPool();
const app = Fastify({ logger: false, keepAliveTimeout: 120_000 });
app.decorateRequest("userId", null);

async function signedIn(request, reply) {
  let claims;
  try {
    claims = verify((request.headers.authorization ?? "").slice("Bearer ".length));
  } catch {
    return reply.code(401).send({ error: "Unauthorized" });
  }
  const { rows } = await pool.query({ ...SESSION, values: [claims.sid, claims.sub, claims.gen] });
  if (rows.length === 0) return reply.code(401).send({ error: "Unauthorized" });
  request.userId = rows[0].id;
  return undefined;
}

const options = { schema: { querystring: ASKED, response: { 200: ANSWER } }, preHandler: signedIn };
app.get("/v1/rooms/:slug/messages", options, async (request, reply) => {
  const { slug } = request.params;
  const { limit, beforeSeq = NEWEST } = request.query;
  const [rooms, page] = await Promise.all([
    pool.query({ ...ROOM, values: [slug, request.userId] }),
    pool.query({ ...PAGE, values: [slug, beforeSeq, limit + 1] }),
  ]);
  const room = rooms.rows[0];
  if (room === undefined) return reply.code(404).send({ error: "RoomNotFound" });
  const hasMore = page.rows.length > limit;
  const messages = page.rows.slice(0, limit).reverse();
  for (const message of messages) {
    message.created_at = message.created_at.toISOString();
    message.edited_at = null;
  }
  const [first] = messages;
  reply.header("cache-control", "no-store");
  return {
    room: { ...room, created_at: room.created_at.toISOString() },
    messages,
    pagination: {
      hasMore,
      nextCursor: hasMore ? { beforeCreatedAt: first.created_at, beforeId: first.id, beforeSeq: first.seq } : null,
    },
    epoch: room.epoch,
    lastSeq: room.last_seq,
  };
});

await app.listen({ port: 0, host: "127.0.0.1" });
process.stderr.write(`${JSON.stringify({ event: "listening", port: app.server.address().port })}\n`);
process.on("SIGTERM", () => process.exit(0));
