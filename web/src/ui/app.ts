/** The page: a gate to sign in at, and the chat behind it. Draws a state; tells what the person does. */

import { reads } from "../session/attention.ts";
import { MAX_PENDING, activeView, type Notice, type RoomView, type State } from "../session/state.ts";
import type { ChatMessage, Room, User } from "../wire/types.ts";
import { Composer } from "./composer.ts";
import { button, el, KeyedList, setText } from "./dom.ts";
import { Gate } from "./gate.ts";
import { MessageList, type MessageActions } from "./messages.ts";
import { avatar } from "./row.ts";
import type { Texts } from "./texts.ts";

const NAME = "Boltorezka";
/** More than this is "many"; the server stops counting a little later. */
const MANY_UNREAD = 99;
/** What a reader of the page has not got to yet is read one after the other; older lines have been said. */
const LIVE_LINES = 5;

export interface Actions extends MessageActions {
  signIn(provider: string): void;
  signOut(): void;
  chooseRoom(slug: string): void;
  send(text: string): void;
  typing(): void;
}

export class App {
  private readonly gate: Gate;
  private chat: Chat | null = null;
  private readonly live = el("div", { class: "only-read", role: "log", "aria-live": "polite" });

  constructor(
    private readonly root: HTMLElement,
    private readonly texts: Texts,
    private readonly actions: Actions,
  ) {
    document.documentElement.lang = texts.locale;
    this.gate = new Gate(texts, (provider) => {
      actions.signIn(provider);
    });
    root.replaceChildren(this.gate.element, this.live);
  }

  render(state: State): void {
    document.title = titleOf(state);
    if (state.user === null) {
      this.chat = null;
      this.live.replaceChildren();
      this.gate.update(state);
      this.show(this.gate.element);
      return;
    }
    this.chat ??= new Chat(this.texts, this.actions, state.user);
    this.show(this.chat.element);
    this.chat.update(state, state.user);
    this.forget(activeView(state)?.log?.messages ?? []);
  }

  /** What was read out and is deleted, or of another room, is nowhere on the page. */
  private forget(messages: readonly ChatMessage[]): void {
    for (const line of [...this.live.querySelectorAll("p")]) if (!messages.some(({ id }) => id === line.dataset.of)) line.remove();
  }

  /** Read a new message out; what was there before stays silent, and so do edits. */
  announce(message: ChatMessage): void {
    this.live.append(el("p", { "data-of": message.id }, this.texts.said(message.userName, message.text)));
    while (this.live.childElementCount > LIVE_LINES) this.live.firstElementChild?.remove();
  }

  private show(element: HTMLElement): void {
    if (this.root.firstElementChild !== element) this.root.replaceChildren(element, this.live);
  }
}

/** The count stands first: tabs are narrow. */
function titleOf(state: State): string {
  const unread = state.rooms.reduce((sum, room) => sum + unreadOf(state, room), 0);
  return unread === 0 ? NAME : `(${shortCount(unread)}) ${NAME}`;
}

function unreadOf(state: State, room: Room): number {
  return room.slug === state.active && reads(state) ? 0 : room.unread;
}

function shortCount(count: number): string {
  return count > MANY_UNREAD ? `${MANY_UNREAD}+` : String(count);
}

class Chat {
  readonly element: HTMLElement;
  private readonly rooms: KeyedList;
  private readonly people: KeyedList;
  private readonly peopleCount = el("span", { class: "count" });
  private readonly title = el("h2", {});
  private readonly status = el("span", { class: "status", role: "status" });
  private readonly notice = el("p", { class: "notice", role: "alert" });
  private readonly typing = el("p", { class: "typing" });
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
    this.messages = new MessageList(texts, actions, () => {
      this.composer.focus();
    });
    this.composer = this.makeComposer();
    const leave = button(texts.signOut, "quiet", () => {
      actions.signOut();
    });
    const who = el("div", { class: "who" }, avatar(me.id, me.name), el("span", { class: "name" }, me.name), leave);
    this.element = el(
      "div",
      { class: "chat" },
      el("aside", { class: "side" }, el("h1", {}, el("span", { class: "mark", "aria-hidden": "true" }), NAME), el("nav", { "aria-label": texts.rooms }, el("h3", {}, texts.rooms), roomList), who),
      el("main", { class: "room" }, el("header", {}, this.title, this.status), this.notice, this.messages.element, this.composer.element, this.typing),
      el("aside", { class: "people", "aria-label": texts.people }, el("h3", {}, texts.people, this.peopleCount), peopleList),
    );
  }

  private makeComposer(): Composer {
    return new Composer(this.texts, {
      send: (text) => {
        this.actions.send(text);
        this.messages.toEnd();
      },
      typing: () => {
        this.actions.typing();
      },
      editLast: () => {
        this.messages.editLast();
      },
    });
  }

  update(state: State, me: User): void {
    const view = activeView(state);
    this.everJoined ||= state.joined;
    this.drawRooms(state);
    this.drawPeople(view?.people ?? [], me);
    setText(this.title, view?.title ?? "");
    this.drawStatus(state);
    this.drawTyping(view);
    const nowhere = view === null && state.rooms.length > 0;
    this.element.classList.toggle("nowhere", nowhere);
    this.messages.update(view, me, state.serverClock, nowhere);
    this.composer.update(view?.title ?? "", view !== null, (view?.pending.length ?? 0) >= MAX_PENDING);
  }

  private drawStatus(state: State): void {
    const { texts } = this;
    const betweenRooms = state.active === null && state.link.kind === "open" && state.link.ready;
    const on = state.joined || betweenRooms;
    setText(this.status, on ? texts.online : this.everJoined ? texts.reconnecting : texts.connecting);
    this.status.dataset.state = on ? "on" : "off";
    setText(this.notice, state.notice === null ? "" : this.sentence(state.notice));
    this.notice.classList.toggle("wrong", state.notice?.kind === "logout-failed");
  }

  private sentence(notice: Notice): string {
    switch (notice.kind) {
      case "logout-failed":
        return this.texts.logoutFailed;
      case "room-gone":
        return this.texts.roomGone;
      case "removed":
        return this.texts.removed(notice.room);
    }
  }

  /** The line is always there, so that nothing moves when somebody begins to type; it is not read out. */
  private drawTyping(view: RoomView | null): void {
    const names = (view?.typing ?? []).map((one) => one.userName);
    setText(this.typing, names.length === 0 ? "" : this.texts.typing(names));
  }

  private drawRooms(state: State): void {
    this.rooms.update(
      state.rooms.map((room) => {
        const here = room.slug === state.active;
        const unread = unreadOf(state, room);
        return { key: room.slug, version: JSON.stringify([room.title, room.isPublic, here, unread]), draw: () => this.roomRow(room, here, unread) };
      }),
    );
  }

  private roomRow({ slug, title, isPublic }: Room, here: boolean, unread: number): HTMLElement {
    const choose = button("", isPublic ? "room-name" : "room-name private", () => {
      this.actions.chooseRoom(slug);
    });
    choose.append(el("span", { class: "name" }, title));
    if (unread > 0) {
      choose.classList.add("unread");
      choose.append(el("span", { class: "badge", "aria-label": this.texts.unread(unread), role: "img" }, shortCount(unread)));
    }
    if (here) choose.setAttribute("aria-current", "page");
    return el("li", {}, choose);
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
