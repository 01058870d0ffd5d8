/** Puts the page and the machine together. */

import { Driver, newKey } from "./driver.ts";
import { App } from "./ui/app.ts";
import { textsFor } from "./ui/texts.ts";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html has no #app");

const app: App = new App(root, textsFor(navigator.languages), {
  signIn: (provider) => {
    driver.tell({ on: "sign-in", provider });
  },
  signOut: () => {
    driver.tell({ on: "sign-out" });
  },
  chooseRoom: (slug) => {
    driver.tell({ on: "choose-room", slug });
  },
  send: (text) => {
    driver.tell({ on: "send", text, key: newKey() });
  },
  edit: (messageId, text) => {
    driver.tell({ on: "edit", messageId, text, key: newKey() });
  },
  delete: (messageId) => {
    driver.tell({ on: "delete", messageId, key: newKey() });
  },
  typing: () => {
    driver.tell({ on: "typing" });
  },
  scrolled: (atEnd) => {
    driver.tell({ on: "scrolled", atEnd });
  },
  retry: (key) => {
    driver.tell({ on: "retry", key });
  },
  discard: (key) => {
    driver.tell({ on: "discard", key });
  },
  loadOlder: () => {
    driver.tell({ on: "load-older" });
  },
});

const driver = new Driver({
  changed: (state) => {
    app.render(state);
  },
  announced: (message) => {
    app.announce(message);
  },
});
driver.start();
