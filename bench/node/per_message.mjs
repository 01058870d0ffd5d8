// A rooms server that stores each message in its own transaction and sends it to each socket by `ws.send`.
import pg from "pg";
import { encode, eventOf, eventOfRow, nack, repeated, serve, stored } from "./peer.mjs";

// One round trip, one transaction: the key looked up, membership checked, the seq taken and the event stored, or
// nothing. No row means: not a member.
const APPEND = {
  name: "append",
  text: `
    WITH first AS (
      SELECT seq, id, user_id, user_name, text, created_at, request_id FROM events
      WHERE user_id = $3 AND idempotency_key = $7
    ), head AS (
      UPDATE rooms SET last_seq = last_seq + 1 WHERE id = $1 AND NOT EXISTS (SELECT FROM first) AND EXISTS (
        SELECT FROM members m JOIN users u ON u.id = m.user_id
        WHERE m.room_id = $1 AND m.user_id = $3 AND NOT u.banned)
      RETURNING last_seq
    ), added AS (
      INSERT INTO events (room_id, seq, kind, id, user_id, user_name, text, request_id, idempotency_key, created_at)
      SELECT $1, last_seq, 'message', $2, $3, $4, $5, $6, $7, $8 FROM head RETURNING seq
    )
    SELECT seq, NULL AS id, NULL AS user_id, NULL AS user_name, NULL AS text, NULL::timestamptz AS created_at,
      NULL AS request_id FROM added
    UNION ALL SELECT * FROM first`,
};
const UNIQUE_VIOLATION = "23505";
// A socket that is this far behind is better off coming back with its position.
const MAX_BEHIND = 1 << 20;
const TEXT = { binary: false };

await serve(async (pool) => {
  // A connection for the log alone, its statements pipelined: the row of the room orders the writers anyway, and the
  // answers come in the order of the seqs without waiting a round trip for each.
  const writer = new pg.Client({ pipeline: true });
  await writer.connect();

  async function append(said) {
    const { request } = said;
    const values = [
      said.room.id, said.id, said.user.id, said.user.name, said.text, request.requestId ?? null,
      request.idempotencyKey ?? null, said.createdAt,
    ];
    try {
      return (await writer.query({ ...APPEND, values })).rows[0];
    } catch (error) {
      // Another process stored the same key between our look and our insert: now the look finds it.
      if (error.code === UNIQUE_VIOLATION) return (await writer.query({ ...APPEND, values })).rows[0];
      throw error;
    }
  }

  function publish(room, text) {
    // Encoded once; ws makes each socket's frame around the same bytes.
    const data = Buffer.from(text);
    for (const ws of room.sockets) {
      if (ws.readyState !== ws.OPEN) continue;
      if (ws.bufferedAmount > MAX_BEHIND) ws.terminate();
      else ws.send(data, TEXT);
    }
  }

  async function say(said) {
    let row;
    try {
      row = await append(said);
    } catch {
      said.ws.send(nack(said.request, "ServerError", "The message could not be stored.", true));
      return;
    }
    if (row === undefined) {
      said.ws.send(nack(said.request, "RoomNotFound", "There is no such room."));
    } else if (row.id !== null) {
      for (const text of repeated(said, eventOfRow(said.room, row))) said.ws.send(text);
    } else {
      const event = eventOf(said, row.seq);
      const text = encode("chat.message", event);
      publish(said.room, text);
      said.room.hold(event.seq, text);
      if (said.request.requestId) said.ws.send(stored(said, event, false));
    }
  }

  return { publish, say, admit: (room, ws) => room.sockets.add(ws) };
});
