/** A tab under test, and the frames it hears. */

import { step } from "../src/session/machine.ts";
import { activeView, INITIAL, type Effect, type Event, type Failure, type Query, type State } from "../src/session/state.ts";
import type { ClientFrame, Durable, HistoryPage, ServerFrame } from "../src/wire/types.ts";
import { ME, message, room } from "./samples.ts";

/** A tab with a clock one can turn. */
export class Tab {
  state: State = INITIAL;
  now = 1_000_000;
  effects: Effect[] = [];

  tell(event: Event): this {
    const [state, effects] = step(this.state, event, { now: this.now, random: 0.5 });
    this.state = state;
    this.effects = [...effects];
    return this;
  }

  frame(frame: ServerFrame): this {
    return this.tell({ on: "frame", frame });
  }

  after(ms: number): this {
    this.now += ms;
    return this.tell({ on: "tick" });
  }

  fails(query: Query, status: number, error = "ServerError"): this {
    const failure: Failure = { status, error: { error, message: "", retryable: status !== 401 } };
    return this.tell({ on: "failed", query, failure });
  }

  nack(requestId: string, eventType: string, code: string, retryAfterMs: number | null = null): this {
    return this.frame({ type: "nack", payload: { requestId, eventType, code, message: `${code}.`, retryable: retryAfterMs !== null, retryAfterMs } });
  }

  sent(): ClientFrame[] {
    return this.effects.flatMap((effect) => (effect.do === "send" ? effect.frame : []));
  }

  asked(): string[] {
    return this.effects.flatMap((effect) => (effect.do === "fetch" ? effect.query.what : []));
  }

  signIn(): this {
    this.tell({ on: "start", authError: null });
    this.tell({ on: "signed-in", signIn: { user: ME, expiresInSec: 600 } });
    return this.tell({ on: "rooms", rooms: [room("general", "r1"), room("garden", "r2")] });
  }

  connect(): this {
    this.tell({ on: "ticket", ticket: "t" });
    this.tell({ on: "opened" });
    return this.frame({ type: "server.ready", payload: { userId: ME.id, userName: ME.name, connectedAt: "2026-01-02T03:04:05.678Z", connectionId: "c1", heartbeatMs: 25_000 } });
  }

  enter(lastSeq: number, slug = "general"): this {
    this.frame({ type: "room.joined", payload: { roomId: slug === "general" ? "r1" : "r2", roomSlug: slug, roomTitle: slug, epoch: "e1", lastSeq } });
    return this.frame(ack(`join:${slug}`, "room.join"));
  }

  /** A page of history arrives; without seqs, an empty one at the top. */
  history(page: HistoryPage, beforeSeq: number | null = null): this {
    return this.tell({ on: "history", slug: this.state.active ?? "", beforeSeq, page });
  }

  frames(...events: Durable[]): this {
    for (const event of events) this.frame(event);
    return this;
  }

  unread(slug: string): number {
    return this.state.rooms.find((item) => item.slug === slug)?.unread ?? -1;
  }

  shown(): number[] {
    return (activeView(this.state)?.log?.messages ?? []).map(({ seq }) => seq);
  }

  unsent(): string[] {
    return (activeView(this.state)?.pending ?? []).map(({ text, state }) => `${text}: ${state}`);
  }
}

export function ack(requestId: string, eventType: string, seq: number | null = null): ServerFrame {
  return { type: "ack", payload: { requestId, eventType, seq, messageId: null, duplicate: false } };
}

/** A tab in a live room, its log at seq 4. */
export const live = () => new Tab().signIn().connect().enter(4);
export const chat = (seq: number, more = {}): ServerFrame => ({ type: "chat.message", payload: message(seq, more) });
