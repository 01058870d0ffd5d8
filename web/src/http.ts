/** The HTTP side of the contract: one query, one event. The session travels in a cookie scripts cannot read. */

import type { Event, Query } from "./session/state.ts";
import * as codec from "./wire/codec.ts";

/** A page that waits longer than this for an answer is better off asking again. */
const DEADLINE_MS = 10_000;
const PAGE = 50;

const ROUTES: Record<Query["what"], { method: "GET" | "POST"; path: string }> = {
  "sign-in": { method: "GET", path: "/v1/auth/sso/session" },
  providers: { method: "GET", path: "/v1/auth/mode" },
  refresh: { method: "POST", path: "/v1/auth/refresh" },
  logout: { method: "POST", path: "/v1/auth/logout" },
  rooms: { method: "GET", path: "/v1/rooms" },
  unread: { method: "GET", path: "/v1/rooms" },
  ticket: { method: "GET", path: "/v1/auth/ws-ticket" },
  history: { method: "GET", path: "/v1/rooms/" },
};

/** Ask, and say what came of it. Never rejects: no answer, or one that is not ours, is a `failed` event. */
export async function ask(query: Query): Promise<Event> {
  const failed = (status: number, error: unknown): Event => ({ on: "failed", query, failure: { status, error: codec.readError(error) } });
  try {
    const answer = await fetch(address(query), {
      method: ROUTES[query.what].method,
      credentials: "same-origin",
      headers: { accept: "application/json" },
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    const body: unknown = await answer.json().catch(() => null);
    return answer.ok ? understood(query, body) : failed(answer.status, body);
  } catch (error) {
    if (error instanceof codec.WireError || error instanceof TypeError || error instanceof DOMException) return failed(0, null);
    throw error;
  }
}

function address(query: Query): string {
  const { path } = ROUTES[query.what];
  if (query.what !== "history") return path;
  const before = query.beforeSeq === null ? "" : `&beforeSeq=${query.beforeSeq}`;
  return `${path}${encodeURIComponent(query.slug)}/messages?limit=${PAGE}${before}`;
}

function understood(query: Query, body: unknown): Event {
  switch (query.what) {
    case "sign-in":
      return { on: "signed-in", signIn: codec.readSignIn(body) };
    case "providers":
      return { on: "providers", providers: codec.readProviders(body) };
    case "refresh": {
      const signIn = codec.readSignIn(body);
      if (signIn === null) throw new codec.WireError("a refresh without a session");
      return { on: "refreshed", signIn };
    }
    case "logout":
      return { on: "logged-out" };
    case "rooms":
      return { on: "rooms", rooms: codec.readRooms(body) };
    case "unread":
      return { on: "unread", rooms: codec.readRooms(body) };
    case "ticket":
      return { on: "ticket", ticket: codec.readTicket(body) };
    case "history":
      return { on: "history", slug: query.slug, beforeSeq: query.beforeSeq, page: codec.readHistory(body) };
  }
}
