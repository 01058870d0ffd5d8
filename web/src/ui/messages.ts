/** The conversation: messages with day marks, one head for a run of one author's, then what is not sent yet. */

import type { Pending, RoomView } from "../session/state.ts";
import type { ChatMessage, User } from "../wire/types.ts";
import { button, el, KeyedList, type Row } from "./dom.ts";
import type { Texts } from "./texts.ts";

/** After a pause this long the author and the time are said again. */
const RUN_MS = 5 * 60_000;
/** As near to the end as this counts as reading the end. */
const NEAR_END_PX = 80;
const HUES = 8;

export interface MessageActions {
  retry(key: string): void;
  discard(key: string): void;
  loadOlder(): void;
}

export class MessageList {
  readonly element: HTMLElement;
  private readonly scroller: HTMLElement;
  private readonly list: KeyedList;
  private readonly past: HTMLElement;
  private readonly newest: HTMLButtonElement;
  private readonly clock: Intl.DateTimeFormat;
  private readonly day: Intl.DateTimeFormat;
  private following = true;
  private shownTop = 0;
  private shownSlug = "";

  constructor(
    private readonly texts: Texts,
    private readonly actions: MessageActions,
  ) {
    this.clock = new Intl.DateTimeFormat(texts.locale, { hour: "2-digit", minute: "2-digit" });
    this.day = new Intl.DateTimeFormat(texts.locale, { day: "numeric", month: "long", year: "numeric" });
    const rows = el("div", { class: "rows", role: "list" });
    this.list = new KeyedList(rows);
    this.past = el("div", { class: "past" });
    this.scroller = el("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": texts.messages }, this.past, rows);
    this.newest = button(texts.newest, "newest", () => {
      this.toEnd();
    });
    this.newest.hidden = true;
    this.element = el("div", { class: "conversation" }, this.scroller, this.newest);
    this.scroller.addEventListener("scroll", () => {
      this.following = this.nearEnd();
      if (this.following) this.newest.hidden = true;
    });
    // A window that turns or a keyboard that opens must not hide what is being read.
    new ResizeObserver(() => {
      if (this.following) this.toEnd();
    }).observe(this.scroller);
  }

  update(view: RoomView | null, me: User): void {
    const atEnd = this.following || view?.slug !== this.shownSlug;
    const height = this.scroller.scrollHeight;
    const messages = view?.log?.messages ?? [];
    const top = messages.at(-1)?.seq ?? 0;
    const oldest = this.scroller.querySelector(".message");
    this.drawPast(view);
    this.list.update(this.rows(messages, view?.pending ?? [], me));
    const grewAbove = oldest !== null && this.scroller.querySelector(".message") !== oldest;
    if (atEnd) this.toEnd();
    else if (grewAbove) this.scroller.scrollTop += this.scroller.scrollHeight - height;
    else if (top > this.shownTop) this.newest.hidden = false;
    this.shownTop = top;
    this.shownSlug = view?.slug ?? "";
  }

  toEnd(): void {
    this.following = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.newest.hidden = true;
  }

  private nearEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  private drawPast(view: RoomView | null): void {
    const { texts } = this;
    const load = (label: string) => [
      button(label, "quiet", () => {
        this.actions.loadOlder();
      }),
    ];
    const state = view === null || view.history === "none" ? "" : view.history === "ready" && view.log?.hasMore === true ? "more" : view.history;
    const empty = state === "ready" && view?.log?.messages.length === 0 && view.pending.length === 0;
    const shown = empty ? "empty" : state;
    if (this.past.dataset.state === shown) return;
    this.past.dataset.state = shown;
    const content: Record<string, (Node | string)[]> = {
      loading: [texts.loading],
      failed: [`${texts.historyFailed} `, ...load(texts.retry)],
      more: load(texts.older),
      empty: [texts.empty],
    };
    this.past.replaceChildren(...(content[shown] ?? []));
  }

  private rows(messages: readonly ChatMessage[], pending: readonly Pending[], me: User): Row[] {
    const rows: Row[] = [];
    let before: ChatMessage | null = null;
    for (const message of messages) {
      const at = new Date(message.createdAt);
      const previous: Date | null = before === null ? null : new Date(before.createdAt);
      if (previous?.toDateString() !== at.toDateString()) rows.push(this.dayRow(at));
      const runs =
        before?.userId === message.userId && previous !== null && previous.toDateString() === at.toDateString() && at.getTime() - previous.getTime() < RUN_MS;
      rows.push({
        key: message.id,
        version: runs ? "run" : "head",
        draw: () => this.message(message, at, !runs, message.userId === me.id),
      });
      before = message;
    }
    for (const item of pending) {
      rows.push({ key: item.key, version: item.state, draw: () => this.pendingRow(item, me) });
    }
    return rows;
  }

  private dayRow(at: Date): Row {
    const now = new Date();
    const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
    const names = new Map([
      [now.toDateString(), this.texts.today],
      [yesterday.toDateString(), this.texts.yesterday],
    ]);
    const label = names.get(at.toDateString()) ?? this.day.format(at);
    return { key: `day:${at.toDateString()}`, version: label, draw: () => el("div", { class: "day", role: "separator" }, el("span", {}, label)) };
  }

  private message(message: ChatMessage, at: Date, withHead: boolean, mine: boolean): HTMLElement {
    const row = el("div", { class: `message${withHead ? " head" : ""}${mine ? " mine" : ""}`, role: "listitem" });
    const time = el("time", { datetime: message.createdAt, title: at.toLocaleString(this.texts.locale) }, this.clock.format(at));
    if (withHead) row.append(avatar(message.userId, message.userName), el("div", { class: "by" }, el("b", {}, message.userName), time));
    else row.append(time);
    row.append(el("p", { dir: "auto" }, message.text));
    return row;
  }

  private pendingRow(item: Pending, me: User): HTMLElement {
    const { texts } = this;
    const row = el("div", { class: `message head mine ${item.state}`, role: "listitem" });
    row.append(avatar(me.id, me.name), el("div", { class: "by" }, el("b", {}, me.name), el("span", { class: "state" }, item.state === "failed" ? "" : texts.sending)));
    row.append(el("p", { dir: "auto" }, item.text));
    if (item.state !== "failed") return row;
    const why = item.reason === null ? "" : ` ${texts.reasons[item.reason.code] ?? item.reason.message}`;
    const retry = button(texts.retry, "quiet", () => {
      this.actions.retry(item.key);
    });
    const discard = button(texts.discard, "quiet", () => {
      this.actions.discard(item.key);
    });
    row.append(el("div", { class: "trouble", role: "alert" }, `${texts.failed}${why} `, retry, discard));
    return row;
  }
}

/** A letter on a colour that stays the same for a person; decoration, so hidden from readers of the page. */
export function avatar(userId: string, name: string): HTMLElement {
  // FNV-1a: ids made in the same second differ in few characters and must still get different colours.
  let hash = 0x811c9dc5;
  for (const character of userId) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  const hue = ((hash >>> 16) ^ (hash & 0xffff)) % HUES;
  const letter = [...name.trim()][0]?.toUpperCase() ?? "?";
  return el("span", { class: `avatar hue-${hue}`, "aria-hidden": "true" }, letter);
}
