/** The conversation: messages with day marks, one head for a run of one author's, then what is not sent yet. */

import type { Pending, RoomView, State } from "../session/state.ts";
import type { ChatMessage, User } from "../wire/types.ts";
import { CHANGE_WINDOW_MS } from "../wire/types.ts";
import { button, el, KeyedList, type Row } from "./dom.ts";
import { type Intent, type RowActions, RowMaker, type Standing } from "./row.ts";
import type { Texts } from "./texts.ts";

/** After a pause this long the author and the time are said again. */
const RUN_MS = 5 * 60_000;
/** As near to the end as this counts as reading the end. */
const NEAR_END_PX = 80;

export interface MessageActions extends RowActions {
  edit(messageId: string, text: string): void;
  delete(messageId: string): void;
  loadOlder(): void;
  scrolled(atEnd: boolean): void;
}

export class MessageList {
  readonly element: HTMLElement;
  private readonly scroller: HTMLElement;
  private readonly list: KeyedList;
  private readonly past: HTMLElement;
  private readonly newest: HTMLButtonElement;
  private readonly day: Intl.DateTimeFormat;
  private readonly maker: RowMaker;
  private intent: Intent | null = null;
  private last: { view: RoomView | null; me: User; clock: State["serverClock"]; nowhere: boolean } | null = null;
  private following = true;
  private shownTop = 0;
  private shownSlug = "";

  constructor(
    private readonly texts: Texts,
    private readonly actions: MessageActions,
    /** An edit or a question is over: the person goes on writing. */
    private readonly done: () => void,
  ) {
    this.day = new Intl.DateTimeFormat(texts.locale, { day: "numeric", month: "long", year: "numeric" });
    this.maker = this.makeRows();
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
      this.follow(this.nearEnd());
    });
    // A window that turns or a keyboard that opens must not hide what is being read.
    new ResizeObserver(() => {
      if (this.following) this.toEnd();
    }).observe(this.scroller);
  }

  private makeRows(): RowMaker {
    return new RowMaker(this.texts, {
      retry: (key) => {
        this.actions.retry(key);
      },
      discard: (key) => {
        this.actions.discard(key);
      },
      intend: (kind, message) => {
        this.intend({ kind, messageId: message.id, draft: message.text });
      },
      settle: (intent, carryOut) => {
        this.settle(intent, carryOut);
      },
    });
  }

  /** `nowhere`: there are rooms, and none of them is looked at. */
  update(view: RoomView | null, me: User, clock: State["serverClock"], nowhere: boolean): void {
    this.last = { view, me, clock, nowhere };
    const atEnd = this.following || view?.slug !== this.shownSlug;
    const height = this.scroller.scrollHeight;
    const messages = view?.log?.messages ?? [];
    const top = messages.at(-1)?.seq ?? 0;
    const oldest = this.scroller.querySelector(".message");
    if (this.intent !== null && !messages.some(({ id }) => id === this.intent?.messageId)) this.intent = null;
    this.drawPast(view, nowhere);
    this.list.update(this.rows(view, me));
    const grewAbove = oldest !== null && this.scroller.querySelector(".message") !== oldest;
    if (atEnd) this.toEnd();
    else if (grewAbove) this.scroller.scrollTop += this.scroller.scrollHeight - height;
    else if (top > this.shownTop) this.newest.hidden = false;
    this.shownTop = top;
    this.shownSlug = view?.slug ?? "";
  }

  toEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.follow(true);
  }

  /** Edit the newest message of one's own, if it may still be changed. */
  editLast(): void {
    const found = [...(this.last?.view?.log?.messages ?? [])].reverse().find((message) => message.userId === this.last?.me.id);
    if (found !== undefined && this.changeable(found)) this.intend({ kind: "edit", messageId: found.id, draft: found.text });
  }

  private intend(intent: Intent | null): void {
    this.intent = intent;
    if (this.last !== null) this.update(this.last.view, this.last.me, this.last.clock, this.last.nowhere);
  }

  private settle(intent: Intent, carryOut: boolean): void {
    const { kind, messageId, draft } = intent;
    const message = this.last?.view?.log?.messages.find(({ id }) => id === messageId);
    if (carryOut && kind === "delete") this.actions.delete(messageId);
    else if (carryOut && message !== undefined && draft !== message.text) this.actions.edit(messageId, draft);
    this.intend(null);
    this.done();
  }

  private follow(atEnd: boolean): void {
    this.following = atEnd;
    if (atEnd) this.newest.hidden = true;
    this.actions.scrolled(atEnd);
  }

  private nearEnd(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }

  /** By the server's clock, as well as it is known; in the end the server decides. */
  private changeable(message: ChatMessage): boolean {
    const clock = this.last?.clock ?? null;
    const now = Date.now() + (clock === null ? 0 : Date.parse(clock.said) - clock.at);
    return now - Date.parse(message.createdAt) < CHANGE_WINDOW_MS;
  }

  private drawPast(view: RoomView | null, nowhere: boolean): void {
    const { texts } = this;
    const load = (label: string) => [
      button(label, "quiet", () => {
        this.actions.loadOlder();
      }),
    ];
    const state = view === null || view.history === "none" ? "" : view.history === "ready" && view.log?.hasMore === true ? "more" : view.history;
    const empty = state === "ready" && view?.log?.messages.length === 0 && view.pending.length === 0;
    const shown = nowhere ? "nowhere" : empty ? "empty" : state;
    if (this.past.dataset.state === shown) return;
    this.past.dataset.state = shown;
    const content: Record<string, (Node | string)[]> = {
      loading: [texts.loading],
      failed: [`${texts.historyFailed} `, ...load(texts.retry)],
      more: load(texts.older),
      empty: [texts.empty],
      nowhere: [texts.noRoom],
    };
    this.past.replaceChildren(...(content[shown] ?? []));
  }

  private rows(view: RoomView | null, me: User): Row[] {
    const rows: Row[] = [];
    const changes = new Map((view?.pending ?? []).flatMap((item) => (item.change === null ? [] : [[item.change.messageId, item] as const])));
    let before: ChatMessage | null = null;
    for (const message of view?.log?.messages ?? []) {
      const at = new Date(message.createdAt);
      const previous: Date | null = before === null ? null : new Date(before.createdAt);
      if (previous?.toDateString() !== at.toDateString()) rows.push(this.dayRow(at));
      const runs =
        before?.userId === message.userId && previous !== null && previous.toDateString() === at.toDateString() && at.getTime() - previous.getTime() < RUN_MS;
      rows.push(this.messageRow(message, at, !runs, me, changes.get(message.id) ?? null));
      changes.delete(message.id);
      before = message;
    }
    let runs = before?.userId === me.id && Date.now() - Date.parse(before.createdAt) < RUN_MS;
    for (const item of view?.pending ?? []) {
      // The change of a message that is gone is worth a row only when there is something to say about it.
      if (item.change !== null && (item.state !== "failed" || changes.get(item.change.messageId) !== item)) continue;
      const withHead = !runs;
      rows.push({ key: item.key, version: `${withHead} ${item.state} ${item.notBefore !== null}`, draw: () => this.maker.pending(item, me, withHead) });
      runs = true;
    }
    return rows;
  }

  private messageRow(message: ChatMessage, at: Date, withHead: boolean, me: User, change: Pending | null): Row {
    const mine = message.userId === me.id;
    const intent = this.intent?.messageId === message.id ? this.intent : null;
    const busy = change !== null && change.state !== "failed";
    const standing: Standing = { withHead, mine, changeable: mine && !busy && this.changeable(message), change, intent };
    // A row that is being edited is drawn once: what is written in it must not be taken away.
    const content = intent?.kind === "edit" ? "" : JSON.stringify([message.text, message.editedAt, change, standing.changeable]);
    return {
      key: message.id,
      version: `${withHead} ${intent?.kind ?? ""} ${content}`,
      draw: () => this.maker.message(message, at, standing),
    };
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
}
