/** Runs the machine: performs its effects, feeds it what happens. The only place with a clock, a die and a socket. */

import { ask } from "./http.ts";
import { step } from "./session/machine.ts";
import { INITIAL, type Effect, type Event, type State } from "./session/state.ts";
import { decodeFrame, encodeFrame, WireError } from "./wire/codec.ts";
import type { ChatMessage } from "./wire/types.ts";

/** Fine enough for the shortest wait the server asks for. */
const TICK_MS = 250;
/** A close that nobody sees as one: the socket could not be opened, or said something unreadable. */
const BROKEN = 1006;

export interface Watcher {
  changed(state: State): void;
  announced(message: ChatMessage): void;
}

export class Driver {
  private state: State = INITIAL;
  private socket: WebSocket | null = null;
  private drawing = false;

  constructor(private readonly watcher: Watcher) {}

  start(): void {
    setInterval(() => {
      this.tell({ on: "tick" });
    }, TICK_MS);
    addEventListener("online", () => {
      this.tell({ on: "network" });
    });
    for (const what of ["focus", "blur"]) addEventListener(what, this.attend);
    document.addEventListener("visibilitychange", this.attend);
    this.attend();
    this.tell({ on: "start", authError: takeAuthError() });
  }

  private readonly attend = () => {
    const visible = document.visibilityState === "visible";
    this.tell({ on: "attention", visible, focused: visible && document.hasFocus() });
  };

  tell(event: Event): void {
    const [next, effects] = step(this.state, event, { now: Date.now(), random: Math.random() });
    const changed = next !== this.state;
    this.state = next;
    if (changed) this.draw();
    for (const effect of effects) this.perform(effect);
  }

  /** Many frames can come in one turn of the loop; the page is drawn once for all of them. */
  private draw(): void {
    if (this.drawing) return;
    this.drawing = true;
    queueMicrotask(() => {
      this.drawing = false;
      this.watcher.changed(this.state);
    });
  }

  private perform(effect: Effect): void {
    switch (effect.do) {
      case "fetch":
        void ask(effect.query).then((event) => {
          this.tell(event);
        });
        return;
      case "open":
        this.open(effect.ticket);
        return;
      case "send":
        this.socket?.send(encodeFrame(effect.frame));
        return;
      case "close":
        this.drop();
        return;
      case "go":
        this.go(effect.to);
        return;
      case "announce":
        this.watcher.announced(effect.message);
    }
  }

  private open(ticket: string): void {
    this.drop();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/realtime/ws?ticket=${encodeURIComponent(ticket)}`);
    this.socket = socket;
    const mine = (event: Event) => {
      if (this.socket === socket) this.tell(event);
    };
    socket.addEventListener("open", () => {
      mine({ on: "opened" });
    });
    socket.addEventListener("message", (message) => {
      const event = this.read(message.data);
      if (event !== null) mine(event);
    });
    socket.addEventListener("close", ({ code }) => {
      mine({ on: "closed", code });
      if (this.socket === socket) this.socket = null;
    });
  }

  private read(data: unknown): Event | null {
    try {
      const frame = typeof data === "string" ? decodeFrame(data) : null;
      return frame === null ? null : { on: "frame", frame };
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      // A frame that breaks the contract cannot be skipped: what it carried would be lost without a trace.
      this.drop();
      return { on: "closed", code: BROKEN };
    }
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  private go(to: Extract<Effect, { do: "go" }>["to"]): void {
    const back = encodeURIComponent(`${location.origin}/`);
    if (to.page === "sso-logout") location.assign(`/v1/auth/sso/logout?returnUrl=${back}`);
    else location.assign(`/v1/auth/sso/start?provider=${encodeURIComponent(to.provider)}&returnUrl=${back}`);
  }
}

/** Why a sign-in failed, as the address we were sent back to says it; taken out, so that a reload or a link does not say it again. */
function takeAuthError(): string | null {
  const address = new URL(location.href);
  const code = address.searchParams.get("authError");
  if (code === null) return null;
  address.searchParams.delete("authError");
  history.replaceState(history.state, "", address);
  return code;
}

/** A key no two messages share; `randomUUID` exists only on https and loopback. */
export function newKey(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
