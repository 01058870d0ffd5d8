// What the Node peers keep in PostgreSQL, and who may come in: schema, sessions, tickets, joins, resumes.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { createVerifier } from "fast-jwt";
import pg from "pg";

const TICKET_LIFETIME_S = 45;
// Seqs and counts stay far below 2^53; as text they would have to be converted row by row.
pg.types.setTypeParser(pg.types.builtins.INT8, Number);

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS users (
    id text PRIMARY KEY, email text NOT NULL, name text NOT NULL, role text NOT NULL, banned boolean NOT NULL,
    created_at timestamptz NOT NULL
  );
  CREATE TABLE IF NOT EXISTS sessions (
    id text PRIMARY KEY, user_id text NOT NULL REFERENCES users, generation bigint NOT NULL,
    created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, revoked_at timestamptz
  );
  CREATE TABLE IF NOT EXISTS tickets (
    hash bytea PRIMARY KEY, session_id text NOT NULL REFERENCES sessions, expires_at timestamptz NOT NULL
  );
  CREATE TABLE IF NOT EXISTS rooms (
    id text PRIMARY KEY, slug text UNIQUE NOT NULL, title text NOT NULL, epoch text NOT NULL, last_seq bigint NOT NULL,
    is_public boolean NOT NULL, created_at timestamptz NOT NULL
  );
  CREATE TABLE IF NOT EXISTS members (
    room_id text NOT NULL REFERENCES rooms, user_id text NOT NULL REFERENCES users, joined_at timestamptz NOT NULL,
    PRIMARY KEY (room_id, user_id)
  );
  CREATE TABLE IF NOT EXISTS events (
    room_id text NOT NULL REFERENCES rooms, seq bigint NOT NULL, kind text NOT NULL, id text UNIQUE NOT NULL,
    user_id text NOT NULL, user_name text NOT NULL, text text NOT NULL, request_id text, idempotency_key text,
    created_at timestamptz NOT NULL, PRIMARY KEY (room_id, seq)
  );
  CREATE UNIQUE INDEX IF NOT EXISTS events_key ON events (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;`;

const LIVE_SESSION = {
  name: "live-session",
  text: `SELECT s.id AS session_id, u.id, u.name FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE s.id = $1 AND s.user_id = $2 AND s.generation = $3 AND s.revoked_at IS NULL AND s.expires_at > now()
      AND NOT u.banned`,
};
const PUT_TICKET = {
  name: "put-ticket",
  text: "INSERT INTO tickets VALUES ($1, $2, now() + $3 * interval '1 second')",
};
const TAKE_TICKET = {
  name: "take-ticket",
  text: `WITH taken AS (DELETE FROM tickets WHERE hash = $1 RETURNING session_id, expires_at)
    SELECT u.id, u.name FROM taken t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
    WHERE t.expires_at > now() AND s.revoked_at IS NULL AND s.expires_at > now() AND NOT u.banned`,
};
const ROOM = { name: "room", text: "SELECT id, slug, title, epoch, last_seq FROM rooms WHERE slug = $1" };
const ENTER = {
  name: "enter",
  text: `WITH made AS (
      INSERT INTO members SELECT r.id, $2, now() FROM rooms r WHERE r.id = $1 AND r.is_public
        AND NOT EXISTS (SELECT FROM members m WHERE m.room_id = $1 AND m.user_id = $2)
      ON CONFLICT DO NOTHING RETURNING room_id
    )
    SELECT last_seq FROM rooms r WHERE r.id = $1
      AND (r.is_public OR EXISTS (SELECT FROM members m WHERE m.room_id = $1 AND m.user_id = $2))`,
};
const DELTA = {
  name: "delta",
  text: `SELECT id, seq, user_id, user_name, text, created_at, request_id FROM events
    WHERE room_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
};

/** How often the log was read from the database. */
export const counters = { logReads: 0 };

const verify = createVerifier({ key: process.env.PEER_JWT_SECRET, algorithms: ["HS256"], cache: true });

/** A pool on a database that has the schema and the room `general`. */
export async function openPool() {
  const pool = new pg.Pool({ max: 8 });
  await pool.query(SCHEMA);
  await pool.query(
    "INSERT INTO rooms VALUES ($1, 'general', 'General', $2, 0, true, now()) ON CONFLICT (slug) DO NOTHING",
    [randomUUID(), randomUUID()],
  );
  return pool;
}

/** The user of a Bearer header's live session, or undefined. */
export async function caller(pool, header) {
  let claims;
  try {
    claims = verify((header ?? "").slice("Bearer ".length));
  } catch {
    return undefined;
  }
  const { rows } = await pool.query({ ...LIVE_SESSION, values: [claims.sid, claims.sub, claims.gen] });
  return rows[0];
}

const hashOf = (ticket) => createHash("sha256").update(ticket).digest();

/** A ticket of one use for this caller; only its hash is stored. */
export async function putTicket(pool, who) {
  const ticket = randomBytes(24).toString("base64url");
  await pool.query({ ...PUT_TICKET, values: [hashOf(ticket), who.session_id, TICKET_LIFETIME_S] });
  return { ticket, expiresInSec: TICKET_LIFETIME_S };
}

/** The user of a ticket, which is used up by this; or undefined. */
export async function takeTicket(pool, ticket) {
  if (!ticket) return undefined;
  return (await pool.query({ ...TAKE_TICKET, values: [hashOf(ticket)] })).rows[0];
}

/** A room by its name, or undefined. */
export async function findRoom(pool, slug) {
  return (await pool.query({ ...ROOM, values: [slug] })).rows[0];
}

/** Become a member when one may; answers the newest seq, or undefined. */
export async function enter(pool, room, user) {
  return (await pool.query({ ...ENTER, values: [room.id, user.id] })).rows[0]?.last_seq;
}

/** The first `limit` events after a seq. */
export async function delta(pool, room, afterSeq, limit) {
  counters.logReads += 1;
  return (await pool.query({ ...DELTA, values: [room.id, afterSeq, limit] })).rows;
}
