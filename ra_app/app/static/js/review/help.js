// The list of keys, in which each key can be changed.

import { ACTIONS, nameOf } from "./keymap.js";

export class Help {
  constructor(keymap, labelKeys) {
    Object.assign(this, { keymap, labelKeys });
    this.dialog = document.getElementById("help");
    this.rows = this.dialog.querySelector("tbody");
    this.said = this.dialog.querySelector("#keys-said");
    this.bind("shortcuts-on", "on");
    this.bind("at-once", "atOnce");
    document.getElementById("keys-reset").addEventListener("click", () => {
      keymap.reset();
      this.say("All keys are as they were at first.");
      this.show();
    });
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    this.dialog.addEventListener("close", () => this.choose(null));
    this.show();
  }

  open() {
    this.say("");
    this.show();
    this.dialog.showModal();
  }

  bind(id, property) {
    const box = document.getElementById(id);
    box.checked = this.keymap[property];
    box.addEventListener("change", () => { this.keymap[property] = box.checked; });
  }

  choose(action) {
    this.action = action;
    for (const button of this.rows.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.action === action));
    if (action) this.say(`Press the key for: ${ACTIONS[action][1]}. Esc keeps the old one.`);
  }

  press(event) {
    if (!this.action || event.ctrlKey || event.metaKey || event.altKey || ["Shift", "Tab"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape" && this.action !== "hide") {
      this.choose(null);
      this.say("");
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const problem = this.keymap.give(this.action, key, this.labelKeys());
    this.say(problem ?? `“${nameOf(key)}” is the key now for: ${ACTIONS[this.action][1]}.`);
    if (!problem) {
      this.choose(null);
      this.show();
    }
  }

  say(sentence) {
    this.said.textContent = sentence;
  }

  show() {
    const focused = document.activeElement?.dataset?.action;
    this.rows.replaceChildren(...Object.entries(ACTIONS).map(([action, [, what]]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = what;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "key";
      button.dataset.action = action;
      button.setAttribute("aria-label", `${nameOf(this.keymap.key(action))}, change the key for: ${what}`);
      button.append(Object.assign(document.createElement("kbd"), { textContent: nameOf(this.keymap.key(action)) }));
      button.addEventListener("click", () => this.choose(action));
      const cell = document.createElement("td");
      cell.append(button);
      row.append(head, cell);
      return row;
    }));
    if (focused) this.rows.querySelector(`[data-action=${focused}]`)?.focus();
    this.onChange?.();
  }
}
