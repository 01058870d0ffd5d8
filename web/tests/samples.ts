/** Values the tests share. */

import type { ChatMessage, HistoryPage, Room, User } from "../src/wire/types.ts";

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
    ...more,
  };
}

export function page(seqs: readonly number[], more: Partial<HistoryPage>): HistoryPage {
  return { messages: seqs.map((seq) => message(seq)), hasMore: false, epoch: "e1", lastSeq: seqs.at(-1) ?? 0, ...more };
}

export function room(slug: string, id: string): Room {
  return { id, slug, title: slug, isPublic: true, isMember: true, unread: 0, lastSeq: 4 };
}
