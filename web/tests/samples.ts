/** Values the tests share. */

import type { ChatMessage, Durable, HistoryPage, Room, User } from "../src/wire/types.ts";

export const ME: User = { id: "u1", email: "ann@example.org", name: "Ann", role: "user" };

export function message(seq: number, more: Partial<ChatMessage> = {}): ChatMessage {
  return {
    id: `m${seq}`,
    roomId: "r1",
    roomSlug: "general",
    userId: "u2",
    userName: "Boris",
    text: `text ${seq}`,
    createdAt: "2026-01-02T03:04:05.678Z",
    seq,
    epoch: "e1",
    senderRequestId: null,
    editedAt: null,
    ...more,
  };
}

const place = (seq: number) => ({ roomId: "r1", roomSlug: "general", seq, epoch: "e1" });

export function said(seq: number, more: Partial<ChatMessage> = {}): Durable {
  return { type: "chat.message", payload: message(seq, more) };
}

export function edited(seq: number, id: string, text = `text of ${seq}`): Durable {
  return { type: "chat.edited", payload: { id, text, editedAt: `2026-01-02T03:05:${String(seq).padStart(2, "0")}.000Z`, ...place(seq) } };
}

export function deleted(seq: number, id: string): Durable {
  return { type: "chat.deleted", payload: { id, ...place(seq) } };
}

export function member(seq: number, type: "member.joined" | "member.left", userId = "u2"): Durable {
  return { type, payload: { userId, userName: "Boris", ...place(seq) } };
}

export function page(seqs: readonly number[], more: Partial<HistoryPage>): HistoryPage {
  return { messages: seqs.map((seq) => message(seq)), hasMore: false, epoch: "e1", lastSeq: seqs.at(-1) ?? 0, ...more };
}

export function room(slug: string, id: string): Room {
  return { id, slug, title: slug, isPublic: true, isMember: true, unread: 0, lastSeq: 4 };
}
