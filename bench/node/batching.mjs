// A rooms server that stores all waiting messages in one transaction, frames each once, and writes one joined buffer
// a tick to the TCP socket below each WebSocket.
import { Sender, WebSocket } from "ws";
import { encode, eventOf, nack, repeated, serve, stored } from "./peer.mjs";

// One transaction stays short, so that other processes get their turn.
const MAX_BATCH = 512;
const UNIQUE_VIOLATION = "23505";

// One round trip, one transaction for the batch; keys that are there already come back with their first event.
const APPEND = {
  name: "append",
  text: `
    WITH given AS (
      SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
        WITH ORDINALITY AS t (id, user_id, text, request_id, idempotency_key, created_at, n)
    ), first AS (
      SELECT e.id, e.seq, e.user_id, e.text, e.created_at, e.request_id, e.idempotency_key FROM events e
      JOIN given g ON e.user_id = g.user_id AND e.idempotency_key = g.idempotency_key
    ), fresh AS (
      SELECT *, row_number() OVER (ORDER BY n) AS place FROM given g WHERE NOT EXISTS (
        SELECT FROM first f WHERE f.user_id = g.user_id AND f.idempotency_key = g.idempotency_key)
    ), head AS (
      UPDATE rooms SET last_seq = last_seq + (SELECT count(*) FROM fresh) WHERE id = $1 RETURNING last_seq
    ), added AS (
      INSERT INTO events (room_id, seq, kind, id, user_id, text, request_id, idempotency_key, created_at)
      SELECT $1, last_seq - (SELECT count(*) FROM fresh) + place, 'message', id, user_id, text, request_id,
        idempotency_key, created_at FROM fresh, head
      RETURNING id, seq, user_id, text, created_at, request_id, idempotency_key
    )
    SELECT *, false AS duplicate FROM added UNION ALL SELECT *, true FROM first ORDER BY seq`,
};

/** The bytes of one unmasked text frame. */
function frame(text) {
  const data = Buffer.from(text);
  return Buffer.concat(Sender.frame(data, { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true }));
}

await serve((pool, room, sockets) => {
  let waiting = [];
  let running = false;

  async function append(batch) {
    const column = (of) => batch.map(of);
    const values = [
      room.id, column((s) => s.id), column((s) => s.userId), column((s) => s.text),
      column((s) => s.request.requestId ?? null), column((s) => s.request.idempotencyKey ?? null),
      column((s) => s.createdAt),
    ];
    try {
      return (await pool.query({ ...APPEND, values })).rows;
    } catch (error) {
      // Another process stored one of the keys between our look and our insert: now the look finds it.
      if (error.code === UNIQUE_VIOLATION) return (await pool.query({ ...APPEND, values })).rows;
      throw error;
    }
  }

  /** One message of each key is stored; those that repeat it within the batch are answered from it. */
  function split(batch) {
    const firsts = new Map();
    for (const said of batch) {
      const key = keyOf(said.userId, said.request.idempotencyKey, said.id);
      if (!firsts.has(key)) firsts.set(key, []);
      firsts.get(key).push(said);
    }
    return firsts;
  }

  function deliver(rows, firsts) {
    const shared = [];
    const own = new Map();
    const tell = (said, text) => {
      if (!own.has(said.ws)) own.set(said.ws, []);
      own.get(said.ws).push(frame(text));
    };
    for (const row of rows) {
      const event = eventOf(room, row);
      const [said, ...again] = firsts.get(keyOf(row.user_id, row.idempotency_key, row.id));
      if (row.duplicate) {
        for (const text of repeated(said, event)) tell(said, text);
      } else {
        shared.push(frame(encode("chat.message", event)));
        if (said.request.requestId) tell(said, stored(said, event, false));
      }
      for (const other of again) for (const text of repeated(other, event)) tell(other, text);
    }
    const joined = Buffer.concat(shared);
    for (const ws of sockets) {
      const frames = own.get(ws);
      const buffer = frames === undefined ? joined : Buffer.concat([joined, ...frames]);
      // ws has no public way to write frames that are made already.
      if (buffer.length && ws.readyState === WebSocket.OPEN) ws._socket.write(buffer);
    }
  }

  async function run() {
    while (waiting.length) {
      const batch = waiting.slice(0, MAX_BATCH);
      waiting = waiting.slice(MAX_BATCH);
      const firsts = split(batch);
      let rows;
      try {
        rows = await append([...firsts.values()].map(([said]) => said));
      } catch {
        for (const { ws, request } of batch) ws.send(nack(request, "ServerError", "Not stored; try again.", true));
        continue;
      }
      deliver(rows, firsts);
    }
    running = false;
  }

  return {
    say(said) {
      waiting.push(said);
      if (running) return;
      running = true;
      // After this turn's reads: everything that came with them goes into the same transaction.
      setImmediate(run);
    },
  };
});

function keyOf(userId, key, id) {
  return key ? `${userId} ${key}` : id;
}
