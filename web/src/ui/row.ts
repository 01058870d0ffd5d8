/** One message on the page: said, changed, unsent, being edited. */

import type { Pending } from "../session/state.ts";
import type { ChatMessage, User } from "../wire/types.ts";
import { MAX_TEXT } from "../wire/types.ts";
import { fit } from "./composer.ts";
import { button, el } from "./dom.ts";
import type { Texts } from "./texts.ts";

const HUES = 8;

export interface RowActions {
  retry(key: string): void;
  discard(key: string): void;
}

/** What the person is about to do with one of their messages. */
export interface Intent {
  readonly kind: "edit" | "delete";
  readonly messageId: string;
  /** What stands in the field of an edit. */
  draft: string;
}

/** How a message stands. */
export interface Standing {
  readonly withHead: boolean;
  readonly mine: boolean;
  readonly changeable: boolean;
  /** The newest change of it that the log does not show yet. */
  readonly change: Pending | null;
  readonly intent: Intent | null;
}

export interface RowHooks extends RowActions {
  intend(kind: Intent["kind"], message: ChatMessage): void;
  /** Drop the intent, or (with a text, or for a delete) carry it out. */
  settle(intent: Intent, carryOut: boolean): void;
}

export class RowMaker {
  private readonly clock: Intl.DateTimeFormat;

  constructor(
    private readonly texts: Texts,
    private readonly hooks: RowHooks,
  ) {
    this.clock = new Intl.DateTimeFormat(texts.locale, { hour: "numeric", minute: "2-digit" });
  }

  message(message: ChatMessage, at: Date, standing: Standing): HTMLElement {
    const { withHead, mine, change, intent } = standing;
    const state = change === null || change.state === "failed" ? "" : " sending";
    const row = el("div", { class: `message${withHead ? " head" : ""}${mine ? " mine" : ""}${state}`, role: "listitem" });
    const said = withHead ? this.clock.format(at) : this.short(at);
    const time = el("time", { datetime: message.createdAt, title: at.toLocaleString(this.texts.locale) }, said);
    if (withHead) row.append(avatar(message.userId, message.userName), el("div", { class: "by" }, el("b", {}, message.userName), time));
    else row.append(time);
    if (intent?.kind === "edit") {
      row.append(this.editor(intent));
      return row;
    }
    const edit = change?.change?.kind === "edit" && change.state !== "failed" ? change.text : null;
    row.append(el("p", { dir: "auto" }, edit ?? message.text, ...this.mark(message, change)));
    if (change?.state === "failed") row.append(this.trouble(change));
    if (intent?.kind === "delete") row.append(this.question(intent));
    else if (standing.changeable) row.append(this.tools(message));
    return row;
  }

  /** What is not sent yet, or was refused and has no place any more. */
  pending(item: Pending, me: User, withHead: boolean): HTMLElement {
    const { texts } = this;
    const row = el("div", { class: `message mine ${item.state}${withHead ? " head" : ""}`, role: "listitem" });
    if (withHead) row.append(avatar(me.id, me.name), el("div", { class: "by" }, el("b", {}, me.name)));
    const state = item.notBefore === null ? texts.sending : texts.waiting;
    row.append(el("p", { dir: "auto" }, item.text, ...(item.state === "failed" ? [] : [el("small", { class: "edited" }, state)])));
    if (item.state === "failed") row.append(this.trouble(item));
    return row;
  }

  /** Beside a message of a run there is room for the digits only. */
  private short(at: Date): string {
    const parts = this.clock.formatToParts(at).filter(({ type }) => type !== "dayPeriod");
    return parts.map(({ value }) => value).join("").trim();
  }

  private mark(message: ChatMessage, change: Pending | null): HTMLElement[] {
    const { texts } = this;
    if (change !== null && change.state !== "failed") {
      const word = change.notBefore !== null ? texts.waiting : change.change?.kind === "delete" ? texts.deleting : texts.saving;
      return [el("small", { class: "edited" }, word)];
    }
    if (message.editedAt === null) return [];
    const when = texts.editedAt(new Date(message.editedAt).toLocaleString(texts.locale));
    return [el("small", { class: "edited", title: when }, texts.edited)];
  }

  private tools(message: ChatMessage): HTMLElement {
    const tool = (kind: Intent["kind"]) =>
      button(this.texts[kind], "quiet", () => {
        this.hooks.intend(kind, message);
      });
    return el("div", { class: "tools" }, tool("edit"), tool("delete"));
  }

  private editor(intent: Intent): HTMLElement {
    const { texts } = this;
    const input = el("textarea", { rows: "1", "aria-label": texts.editing, dir: "auto" });
    input.value = intent.draft;
    const save = button(texts.save, "primary", () => {
      this.hooks.settle(intent, true);
    });
    const cancel = button(texts.cancel, "quiet", () => {
      this.hooks.settle(intent, false);
    });
    const draw = () => {
      intent.draft = input.value;
      save.disabled = input.value.trim() === "" || [...input.value].length > MAX_TEXT;
      fit(input);
    };
    input.addEventListener("input", draw);
    const form = el("div", { class: "editor" }, input, el("div", { class: "choices" }, save, cancel));
    form.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") this.hooks.settle(intent, false);
      else if (event.key === "Enter" && !event.shiftKey && event.target === input) {
        event.preventDefault();
        if (!save.disabled) this.hooks.settle(intent, true);
      }
    });
    queueMicrotask(() => {
      draw();
      input.focus();
    });
    return form;
  }

  private question(intent: Intent): HTMLElement {
    const { texts } = this;
    const remove = button(texts.delete, "danger", () => {
      this.hooks.settle(intent, true);
    });
    const keep = button(texts.keep, "quiet", () => {
      this.hooks.settle(intent, false);
    });
    const asked = el("div", { class: "question", role: "group", "aria-label": texts.askDelete }, el("span", {}, texts.askDelete), remove, keep);
    asked.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.hooks.settle(intent, false);
    });
    // The harmless answer has the focus: an Enter too many deletes nothing.
    queueMicrotask(() => {
      keep.focus();
    });
    return asked;
  }

  private trouble(item: Pending): HTMLElement {
    const { texts } = this;
    const what = item.change === null ? texts.failed : item.change.kind === "edit" ? texts.notEdited : texts.notDeleted;
    const why = item.reason === null ? "" : ` ${texts.reasons[item.reason.code] ?? item.reason.message}`;
    const retry = button(texts.retry, "quiet", () => {
      this.hooks.retry(item.key);
    });
    const discard = button(texts.discard, "quiet", () => {
      this.hooks.discard(item.key);
    });
    // Time and deletion are not undone by trying again.
    const final = item.reason !== null && FINAL.has(item.reason.code);
    return el("div", { class: "trouble", role: "alert" }, `${what}${why} `, ...(final ? [discard] : [retry, discard]));
  }
}

const FINAL = new Set(["EditWindowExpired", "DeleteWindowExpired", "MessageNotFound", "Forbidden", "IdempotencyConflict"]);

/** A letter on a colour that stays the same for a person; decoration, so hidden from readers of the page. */
export function avatar(userId: string, name: string): HTMLElement {
  // FNV-1a: ids made in the same second differ in few characters and must still get different colours.
  let hash = 0x811c9dc5;
  for (const character of userId) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
  const hue = ((hash >>> 16) ^ (hash & 0xffff)) % HUES;
  const letter = [...name.trim()][0]?.toUpperCase() ?? "?";
  return el("span", { class: `avatar hue-${hue}`, "aria-hidden": "true" }, letter);
}
