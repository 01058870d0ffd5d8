/** The page of those who are not in: a word on why, and the ways in. */

import type { State, Turned } from "../session/state.ts";
import { button, el, setText } from "./dom.ts";
import type { Texts } from "./texts.ts";

/** How well-known providers write themselves; others are called as the server names them. */
const NAMES: Readonly<Record<string, string>> = {
  apple: "Apple",
  facebook: "Facebook",
  github: "GitHub",
  gitlab: "GitLab",
  google: "Google",
  keycloak: "Keycloak",
  linkedin: "LinkedIn",
  microsoft: "Microsoft",
  oidc: "OpenID",
  vk: "VK",
  yandex: "Yandex",
};

/** A provider as people read it. */
export function providerName(provider: string): string {
  const own = Object.hasOwn(NAMES, provider) ? NAMES[provider] : undefined;
  return own ?? provider.slice(0, 1).toUpperCase() + provider.slice(1);
}

export class Gate {
  readonly element: HTMLElement;
  private readonly buttons = el("div", { class: "providers" });
  private readonly said = el("p", { class: "said", role: "status" });
  private offered = "";

  constructor(
    private readonly texts: Texts,
    private readonly signIn: (provider: string) => void,
  ) {
    const card = el("div", { class: "card" }, el("span", { class: "mark", "aria-hidden": "true" }), el("h1", {}, "Boltorezka"), el("p", {}, texts.tagline), this.said, this.buttons);
    this.element = el("main", { class: "gate" }, card);
  }

  update(state: State): void {
    const { texts } = this;
    const said: Record<State["auth"], string> = {
      checking: texts.checking,
      unavailable: texts.ssoUnavailable,
      banned: texts.banned,
      "signed-out": this.turned(state.turned),
      "signed-in": texts.checking,
    };
    this.offer(state.providers ?? []);
    this.buttons.hidden = state.auth !== "signed-out";
    setText(this.said, said[state.auth]);
    this.said.classList.toggle("wrong", state.auth === "banned" || (state.auth === "signed-out" && state.turned !== null));
  }

  private turned(turned: Turned | null): string {
    if (turned === null) return "";
    if (turned.kind === "session-ended") return this.texts.sessionEnded;
    const { authErrors } = this.texts;
    // The code stands in an address anybody can write: only known words are shown.
    return (Object.hasOwn(authErrors, turned.code) ? authErrors[turned.code] : undefined) ?? authErrors.other;
  }

  private offer(providers: readonly string[]): void {
    if (this.offered === providers.join()) return;
    this.offered = providers.join();
    const offers = providers.map((provider) =>
      button(this.texts.signInWith(providerName(provider)), "provider", () => {
        this.signIn(provider);
      }),
    );
    this.buttons.replaceChildren(...offers);
  }
}
