/** The page: a gate to sign in at, and the chat behind it. Draws a state; tells what the person does. */

import { MAX_PENDING, activeView, type State } from "../session/state.ts";
import { MAX_TEXT, type ChatMessage, type User } from "../wire/types.ts";
import { button, el, KeyedList, setText } from "./dom.ts";
import { avatar, MessageList, type MessageActions } from "./messages.ts";
import type { Texts } from "./texts.ts";

const PROVIDERS: readonly (readonly [string, string])[] = [
  ["google", "Google"],
  ["yandex", "Yandex"],
];

export interface Actions extends MessageActions {
  signIn(provider: string): void;
  signOut(): void;
  chooseRoom(slug: string): void;
  send(text: string): void;
}

export class App {
  private readonly gate: Gate;
  private chat: Chat | null = null;
  private readonly live = el("div", { class: "only-read", "aria-live": "polite" });

  constructor(
    private readonly root: HTMLElement,
    private readonly texts: Texts,
    private readonly actions: Actions,
  ) {
    document.documentElement.lang = texts.locale;
    this.gate = new Gate(texts, actions);
    root.replaceChildren(this.gate.element, this.live);
  }

  render(state: State): void {
    if (state.user === null) {
      this.chat = null;
      this.gate.update(state);
      this.show(this.gate.element);
      return;
    }
    this.chat ??= new Chat(this.texts, this.actions, state.user);
    this.show(this.chat.element);
    this.chat.update(state, state.user);
  }

  /** Read a new message out; what was there before stays silent. */
  announce(message: ChatMessage): void {
    this.live.replaceChildren(el("p", {}, this.texts.said(message.userName, message.text)));
  }

  private show(element: HTMLElement): void {
    if (this.root.firstElementChild !== element) this.root.replaceChildren(element, this.live);
  }
}

class Gate {
  readonly element: HTMLElement;
  private readonly buttons: HTMLElement;
  private readonly said = el("p", { class: "said", role: "status" });

  constructor(
    private readonly texts: Texts,
    actions: Actions,
  ) {
    this.buttons = el(
      "div",
      { class: "providers" },
      ...PROVIDERS.map(([id, name]) =>
        button(texts.signInWith(name), "provider", () => {
          actions.signIn(id);
        }),
      ),
    );
    const card = el("div", { class: "card" }, el("span", { class: "mark", "aria-hidden": "true" }), el("h1", {}, "Boltorezka"), el("p", {}, texts.tagline), this.buttons, this.said);
    this.element = el("main", { class: "gate" }, card);
  }

  update(state: State): void {
    const { texts } = this;
    const said: Record<State["auth"], string> = { checking: texts.checking, unavailable: texts.ssoUnavailable, banned: texts.banned, "signed-out": "", "signed-in": texts.checking };
    this.buttons.hidden = state.auth !== "signed-out";
    setText(this.said, said[state.auth]);
  }
}

class Chat {
  readonly element: HTMLElement;
  private readonly rooms: KeyedList;
  private readonly people: KeyedList;
  private readonly peopleCount = el("span", { class: "count" });
  private readonly title = el("h2", {});
  private readonly status = el("span", { class: "status", role: "status" });
  private readonly notice = el("p", { class: "notice", role: "alert" });
  private readonly messages: MessageList;
  private readonly composer: Composer;
  private everJoined = false;

  constructor(
    private readonly texts: Texts,
    private readonly actions: Actions,
    me: User,
  ) {
    const roomList = el("ul", {});
    const peopleList = el("ul", {});
    this.rooms = new KeyedList(roomList);
    this.people = new KeyedList(peopleList);
    this.messages = new MessageList(texts, actions);
    this.composer = new Composer(texts, (text) => {
      actions.send(text);
      this.messages.toEnd();
    });
    const leave = button(texts.signOut, "quiet", () => {
      actions.signOut();
    });
    const who = el("div", { class: "who" }, avatar(me.id, me.name), el("span", { class: "name" }, me.name), leave);
    this.element = el(
      "div",
      { class: "chat" },
      el("aside", { class: "side" }, el("h1", {}, el("span", { class: "mark", "aria-hidden": "true" }), "Boltorezka"), el("nav", { "aria-label": texts.rooms }, el("h3", {}, texts.rooms), roomList), who),
      el("main", { class: "room" }, el("header", {}, this.title, this.status), this.notice, this.messages.element, this.composer.element),
      el("aside", { class: "people", "aria-label": texts.people }, el("h3", {}, texts.people, this.peopleCount), peopleList),
    );
  }

  update(state: State, me: User): void {
    const view = activeView(state);
    this.everJoined ||= state.joined;
    this.drawRooms(state);
    this.drawPeople(view?.people ?? [], me);
    setText(this.title, view?.title ?? "");
    this.drawStatus(state);
    this.messages.update(view, me);
    this.composer.update(view?.title ?? "", view !== null, (view?.pending.length ?? 0) >= MAX_PENDING);
  }

  private drawStatus(state: State): void {
    const { texts } = this;
    const label = state.joined ? texts.online : this.everJoined ? texts.reconnecting : texts.connecting;
    setText(this.status, label);
    this.status.dataset.state = state.joined ? "on" : "off";
    const notices = { "logout-failed": texts.logoutFailed, "room-gone": texts.roomGone };
    setText(this.notice, state.notice === null ? "" : notices[state.notice]);
  }

  private drawRooms(state: State): void {
    this.rooms.update(
      state.rooms.map(({ slug, title, isPublic }) => ({
        key: slug,
        version: `${title} ${slug === state.active ? "here" : ""}`,
        draw: () => {
          const choose = button(title, isPublic ? "room-name" : "room-name private", () => {
            this.actions.chooseRoom(slug);
          });
          if (slug === state.active) choose.setAttribute("aria-current", "page");
          return el("li", {}, choose);
        },
      })),
    );
  }

  private drawPeople(people: readonly { userId: string; userName: string }[], me: User): void {
    const sorted = [...people].sort((a, b) => a.userName.localeCompare(b.userName, this.texts.locale) || (a.userId < b.userId ? -1 : 1));
    setText(this.peopleCount, people.length === 0 ? "" : String(people.length));
    this.people.update(
      sorted.map(({ userId, userName }) => ({
        key: userId,
        version: userName,
        draw: () => el("li", {}, avatar(userId, userName), el("span", { class: "name" }, userName), ...(userId === me.id ? [el("small", {}, this.texts.you)] : [])),
      })),
    );
  }
}

class Composer {
  readonly element: HTMLFormElement;
  private readonly input: HTMLTextAreaElement;
  private readonly button: HTMLButtonElement;
  private readonly hint = el("span", { class: "hint", role: "status" });
  private full = false;
  private usable = false;

  constructor(
    private readonly texts: Texts,
    private readonly send: (text: string) => void,
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
    });
    this.input.addEventListener("keydown", (event) => {
      // While an input method composes a word, Enter belongs to it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
  }

  update(room: string, usable: boolean, full: boolean): void {
    this.full = full;
    this.usable = usable;
    const label = this.texts.placeholder(room);
    if (this.input.placeholder !== label) {
      this.input.placeholder = label;
      this.input.setAttribute("aria-label", label);
      // Where there is no mouse, focus would open a keyboard over the messages.
      if (matchMedia("(hover: hover)").matches) this.input.focus();
    }
    this.draw();
  }

  private over(): number {
    return [...this.input.value].length - MAX_TEXT;
  }

  private draw(): void {
    const over = this.over();
    this.button.disabled = !this.usable || this.full || over > 0 || this.input.value.trim() === "";
    setText(this.hint, over > 0 ? this.texts.tooLong(over) : this.full ? this.texts.queueFull : "");
    this.input.style.setProperty("height", "auto");
    this.input.style.setProperty("height", `${this.input.scrollHeight}px`);
  }

  private submit(): void {
    this.draw();
    if (this.button.disabled) return;
    this.send(this.input.value);
    this.input.value = "";
    this.draw();
  }
}
