/** Where the person writes. */

import { MAX_TEXT } from "../wire/types.ts";
import { el, setText } from "./dom.ts";
import type { Texts } from "./texts.ts";

export interface ComposerActions {
  send(text: string): void;
  typing(): void;
  /** The arrow up, with nothing written: change what was said last. */
  editLast(): void;
}

export class Composer {
  readonly element: HTMLFormElement;
  private readonly input: HTMLTextAreaElement;
  private readonly button: HTMLButtonElement;
  private readonly hint = el("span", { class: "hint", role: "status" });
  private full = false;
  private usable = false;

  constructor(
    private readonly texts: Texts,
    private readonly actions: ComposerActions,
  ) {
    this.input = el("textarea", { rows: "1", autocomplete: "off", enterkeyhint: "send" });
    this.button = el("button", { type: "submit", class: "primary" }, texts.send);
    this.element = el("form", { class: "composer" }, this.input, this.button, this.hint);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.input.addEventListener("input", () => {
      this.draw();
      if (this.input.value.trim() !== "") actions.typing();
    });
    this.input.addEventListener("keydown", (event) => {
      // While an input method composes a word, the keys belong to it.
      if (event.isComposing) return;
      if (event.key === "ArrowUp" && this.input.value === "") {
        event.preventDefault();
        actions.editLast();
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        this.submit();
      }
    });
  }

  update(room: string, usable: boolean, full: boolean): void {
    this.full = full;
    this.usable = usable;
    const label = usable ? this.texts.placeholder(room) : this.texts.noRoom;
    if (this.input.placeholder !== label) {
      this.input.placeholder = label;
      this.input.setAttribute("aria-label", label);
      this.input.disabled = !usable;
      this.focus();
    }
    this.draw();
  }

  /** Where there is no mouse, focus would open a keyboard over the messages. */
  focus(): void {
    if (matchMedia("(hover: hover)").matches) this.input.focus();
  }

  private over(): number {
    return [...this.input.value].length - MAX_TEXT;
  }

  private draw(): void {
    const over = this.over();
    this.button.disabled = !this.usable || this.full || over > 0 || this.input.value.trim() === "";
    setText(this.hint, over > 0 ? this.texts.tooLong(over) : this.full ? this.texts.queueFull : "");
    fit(this.input);
  }

  private submit(): void {
    this.draw();
    if (this.button.disabled) return;
    this.actions.send(this.input.value);
    this.input.value = "";
    this.draw();
  }
}

/** A text field as high as its text; style.css says how high it may get. */
export function fit(input: HTMLTextAreaElement): void {
  input.style.setProperty("height", "auto");
  input.style.setProperty("height", `${input.scrollHeight}px`);
}
