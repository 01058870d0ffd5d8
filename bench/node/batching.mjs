// A rooms server that stores all waiting messages of a room in one transaction, frames each once, and writes one
// joined buffer a tick to the TCP socket below each WebSocket.
import { Sender } from "ws";
import { encode, eventOf, eventOfRow, nack, repeated, serve, stored } from "./peer.mjs";

// One transaction stays short, so that other processes get their turn.
const MAX_BATCH = 512;
const MAX_BEHIND = 1 << 20;
const UNIQUE_VIOLATION = "23505";

// One round trip, one transaction for the batch: places in the batch come back with their seq, keys that are there
// already with their first event, and those of no member not at all.
const APPEND = {
  name: "append",
  text: `
    WITH given AS (
      SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[])
        WITH ORDINALITY AS t (id, user_id, user_name, text, request_id, idempotency_key, created_at, n)
    ), first AS (
      SELECT g.n, e.seq, e.id, e.user_id, e.user_name, e.text, e.created_at, e.request_id FROM events e
      JOIN given g ON e.user_id = g.user_id AND e.idempotency_key = g.idempotency_key
    ), fresh AS (
      SELECT g.*, row_number() OVER (ORDER BY g.n) AS place FROM given g
      JOIN members m ON m.room_id = $1 AND m.user_id = g.user_id JOIN users u ON u.id = g.user_id AND NOT u.banned
      WHERE NOT EXISTS (SELECT FROM first f WHERE f.n = g.n)
    ), head AS (
      UPDATE rooms SET last_seq = last_seq + (SELECT count(*) FROM fresh) WHERE id = $1 RETURNING last_seq
    ), added AS (
      INSERT INTO events (room_id, seq, kind, id, user_id, user_name, text, request_id, idempotency_key, created_at)
      SELECT $1, last_seq - (SELECT count(*) FROM fresh) + place, 'message', id, user_id, user_name, text, request_id,
        idempotency_key, created_at FROM fresh, head
      RETURNING seq
    )
    SELECT n, last_seq - (SELECT count(*) FROM fresh) + place AS seq, NULL AS id, NULL AS user_id, NULL AS user_name,
      NULL AS text, NULL::timestamptz AS created_at, NULL AS request_id FROM fresh, head
    UNION ALL SELECT * FROM first ORDER BY seq`,
};

/** The bytes of one unmasked text frame. */
function frame(text) {
  const data = Buffer.from(text);
  return Buffer.concat(Sender.frame(data, { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true }));
}

const keyOf = (said) => (said.request.idempotencyKey ? `${said.user.id} ${said.request.idempotencyKey}` : said.id);

/** Messages of one key: the first is stored, those that repeat it within the batch are answered from it. */
function byKey(batch) {
  const groups = new Map();
  for (const said of batch) {
    const key = keyOf(said);
    const group = groups.get(key);
    if (group) group.push(said);
    else groups.set(key, [said]);
  }
  return [...groups.values()];
}

await serve(async (pool) => {
  const dirty = new Set();
  let scheduled = false;

  const queueOf = (room) => (room.queue ??= { shared: [], own: new Map(), waiting: [], running: false });

  function schedule(room) {
    dirty.add(room);
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      for (const each of dirty) flush(each);
      dirty.clear();
    });
  }

  function publish(room, text) {
    queueOf(room).shared.push(frame(text));
    schedule(room);
  }

  function tell(room, ws, text) {
    const { own } = queueOf(room);
    const frames = own.get(ws);
    if (frames) frames.push(frame(text));
    else own.set(ws, [frame(text)]);
  }

  /** One write for each socket: what the room was told, and what only this one was. */
  function flush(room) {
    const queue = queueOf(room);
    const { shared, own } = queue;
    queue.shared = [];
    queue.own = new Map();
    const joined = Buffer.concat(shared);
    for (const ws of room.sockets) {
      const frames = own.get(ws);
      // Who was let in during this tick has heard of what was said before that.
      const heard = ws.skip ? Buffer.concat(shared.slice(ws.skip)) : joined;
      ws.skip = 0;
      const buffer = frames === undefined ? heard : Buffer.concat([heard, ...frames]);
      if (buffer.length === 0 || ws.readyState !== ws.OPEN) continue;
      // ws has no public way to write frames that are made already.
      if (ws._socket.writableLength > MAX_BEHIND) ws.terminate();
      else ws._socket.write(buffer);
    }
  }

  async function append(room, batch) {
    const column = (of) => batch.map(of);
    const values = [
      room.id, column((s) => s.id), column((s) => s.user.id), column((s) => s.user.name), column((s) => s.text),
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

  function deliver(room, groups, rows) {
    const { shared } = queueOf(room);
    const refused = new Set(groups);
    for (const row of rows) {
      const group = groups[row.n - 1];
      refused.delete(group);
      const [said, ...again] = group;
      const event = row.id === null ? eventOf(said, row.seq) : eventOfRow(room, row);
      if (row.id === null) {
        const text = encode("chat.message", event);
        shared.push(frame(text));
        room.hold(event.seq, text);
        if (said.request.requestId) tell(room, said.ws, stored(said, event, false));
      } else {
        for (const text of repeated(said, event)) tell(room, said.ws, text);
      }
      for (const other of again) for (const text of repeated(other, event)) tell(room, other.ws, text);
    }
    for (const group of refused) {
      for (const { ws, request } of group) tell(room, ws, nack(request, "RoomNotFound", "There is no such room."));
    }
    flush(room);
  }

  async function run(room) {
    const queue = queueOf(room);
    while (queue.waiting.length) {
      const batch = queue.waiting.splice(0, MAX_BATCH);
      const groups = byKey(batch);
      let rows;
      try {
        rows = await append(room, groups.map(([said]) => said));
      } catch {
        for (const { ws, request } of batch) ws.send(nack(request, "ServerError", "Not stored; try again.", true));
        continue;
      }
      deliver(room, groups, rows);
    }
    queue.running = false;
  }

  return {
    publish,
    admit(room, ws) {
      ws.skip = queueOf(room).shared.length;
      room.sockets.add(ws);
      if (ws.skip) schedule(room);
    },
    say(said) {
      const queue = queueOf(said.room);
      queue.waiting.push(said);
      if (queue.running) return;
      queue.running = true;
      // After this turn's reads: everything that came with them goes into the same transaction.
      setImmediate(run, said.room);
    },
  };
});
