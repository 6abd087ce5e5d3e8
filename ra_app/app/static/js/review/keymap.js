// Which key does what. The reviewer can give each action another key and switch all single keys off (WCAG 2.1.4); this browser
// remembers it. The keys of labels are the codebook's and go before these.

import { keep, kept } from "./store.js";

const CHOSEN = "keys";
const SWITCH = "shortcuts";
const AT_ONCE = "at-once";

export const ACTIONS = {
  play: [" ", "play, pause"],
  back: ["ArrowLeft", "3 seconds back"],
  forward: ["ArrowRight", "3 seconds forward"],
  previous: ["k", "previous sentence"],
  next: ["j", "next sentence"],
  slower: [",", "slower"],
  faster: [".", "faster"],
  loop: ["l", "play the clip again and again"],
  text: ["t", "show or cover the text"],
  hide: ["Escape", "pause and cover the text at once"],
  mark: ["m", "mark the sentence that plays; again: remove the mark"],
  begin: ["[", "a marked part begins here"],
  end: ["]", "a marked part ends here"],
  confidence: ["c", "confidence: low, medium, high, none"],
  note: ["n", "write a note; Esc leaves the note, Ctrl Enter submits"],
  submit: ["Enter", "submit and go to the next clip"],
  skip: ["s", "set the clip aside; you can come back to it"],
  pass: ["p", "pass: never get this clip again, no reason needed"],
  undo: ["z", "go back to the clip before, up to ten times"],
  leave: ["x", "after an undo: leave the clip as it is and go on where you were"],
  codebook: ["g", "open or close the codebook"],
  help: ["?", "this list"],
};

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc" };
export const nameOf = (key) => NAMES[key] ?? key;

export class Keymap {
  constructor() {
    this.chosen = kept(CHOSEN) ?? {};
  }

  key(action) {
    return this.chosen[action] ?? ACTIONS[action][0];
  }

  action(key) {
    return Object.keys(ACTIONS).find((action) => this.key(action) === key) ?? null;
  }

  // Returns why the key cannot be given to the action, or null.
  give(action, key, taken) {
    if (key === "Tab" || key.length > 1 && !(key in NAMES) && key !== "Enter" && key !== "Backspace") {
      return "This key cannot be used. Press another one.";
    }
    if (taken.includes(key)) return `“${nameOf(key)}” is the key of a label. Press another one.`;
    const other = this.action(key);
    if (other && other !== action) return `“${nameOf(key)}” is taken: ${ACTIONS[other][1]}. Press another one.`;
    this.chosen = { ...this.chosen, [action]: key };
    keep(CHOSEN, this.chosen);
    return null;
  }

  reset() {
    this.chosen = {};
    keep(CHOSEN, this.chosen);
  }

  get on() {
    return kept(SWITCH) !== "off";
  }

  set on(on) {
    keep(SWITCH, on ? "on" : "off");
  }

  // Whether the key of a label that stands alone submits at once.
  get atOnce() {
    return kept(AT_ONCE) === true;
  }

  set atOnce(on) {
    keep(AT_ONCE, on);
  }
}
