// A rooms server that stores each message in its own transaction and sends it to each socket by `ws.send`.
import { encode, eventOf, nack, repeated, serve, stored } from "./peer.mjs";

// One round trip, one transaction: the key is looked up, the seq taken and the event stored, or nothing.
const APPEND = {
  name: "append",
  text: `
    WITH first AS (
      SELECT id, seq, user_id, text, created_at, request_id FROM events WHERE user_id = $4 AND idempotency_key = $7
    ), head AS (
      UPDATE rooms SET last_seq = last_seq + 1 WHERE id = $1 AND NOT EXISTS (SELECT FROM first) RETURNING last_seq
    ), added AS (
      INSERT INTO events (room_id, seq, kind, id, user_id, text, request_id, idempotency_key, created_at)
      SELECT $1, last_seq, $2, $3, $4, $5, $6, $7, $8 FROM head RETURNING id, seq, user_id, text, created_at, request_id
    )
    SELECT *, false AS duplicate FROM added UNION ALL SELECT *, true FROM first`,
};
const UNIQUE_VIOLATION = "23505";

await serve((pool, room, sockets) => {
  // The row of the room orders the writers anyway; one at a time keeps deliveries in the order of seq.
  let last = Promise.resolve();

  async function append(said) {
    const { request } = said;
    const values = [
      room.id, "message", said.id, said.userId, said.text, request.requestId ?? null, request.idempotencyKey ?? null,
      said.createdAt,
    ];
    try {
      return (await pool.query({ ...APPEND, values })).rows[0];
    } catch (error) {
      // Another process stored the same key between our look and our insert: now the look finds it.
      if (error.code === UNIQUE_VIOLATION) return (await pool.query({ ...APPEND, values })).rows[0];
      throw error;
    }
  }

  async function answer(said) {
    let row;
    try {
      row = await append(said);
    } catch {
      said.ws.send(nack(said.request, "ServerError", "The message could not be stored.", true));
      return;
    }
    const event = eventOf(room, row);
    if (row.duplicate) {
      for (const frame of repeated(said, event)) said.ws.send(frame);
      return;
    }
    // Stringified and encoded once; ws makes each socket's frame around the same bytes.
    const data = Buffer.from(encode("chat.message", event));
    for (const ws of sockets) ws.send(data, { binary: false });
    if (said.request.requestId) said.ws.send(stored(said, event, false));
  }

  return {
    say(said) {
      last = last.then(() => answer(said));
    },
  };
});
