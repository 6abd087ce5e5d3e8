// Connects the parts of the review page. Without this module the page still works with the mouse.

import { Draft } from "./draft.js";
import { listen, setShortcuts, shortcutsOn } from "./keys.js";
import { Labels } from "./labels.js";
import { Player } from "./player.js";
import { Presence } from "./presence.js";

const SKIP_S = 3;
const byId = (id) => document.getElementById(id);

const form = byId("label-form");
const note = byId("note");
const codebook = byId("codebook");
const help = byId("help");
const helpButton = byId("help-open");
const shortcuts = byId("shortcuts-on");
const player = new Player(byId("player"), [...document.querySelectorAll(".segment")], byId("audio-problem"));
const draft = new Draft(form, byId("draft")); // before Labels, which reads the chosen labels
const presence = new Presence(form, player.audio, byId("lease"));
const labels = new Labels(form, codebook.querySelector(".definitions"), byId("problem"));

const submit = () => form.requestSubmit(form.querySelector("button.primary"));
const actions = {
  " ": () => player.toggle(),
  ArrowLeft: () => player.skip(-SKIP_S),
  ArrowRight: () => player.skip(SKIP_S),
  j: () => player.step(1),
  k: () => player.step(-1),
  n: () => note.focus(),
  s: () => byId("skip")?.click(),
  g: () => { codebook.open = !codebook.open; },
  Enter: submit,
  "?": () => help.showModal(),
};
const keys = new Set([...form.querySelectorAll("[data-key]")].map((box) => box.dataset.key));

let on = shortcutsOn();
shortcuts.checked = on;
shortcuts.addEventListener("change", () => {
  on = shortcuts.checked;
  setShortcuts(on);
});
listen((key) => (keys.has(key) ? () => { labels.toggle(key); draft.save(); } : actions[key]), { isOn: () => on, submit });

helpButton.hidden = false;
helpButton.addEventListener("click", () => help.showModal());

// After a mouse click on a checkbox, a sentence or the player, remove the focus. Otherwise Space and Enter would act on this
// element again instead of playing and submitting. An element that is reached with Tab keeps the focus.
const KEEPS_FOCUS = ".choice input, .confidence input, .segment, summary";
document.addEventListener("pointerup", () => setTimeout(() => {
  if (document.activeElement?.matches(KEEPS_FOCUS)) document.activeElement.blur();
}));
player.audio.addEventListener("focusin", () => {
  // The native controls send no pointer events. The focus ring (:focus-visible) shows that the keyboard was used.
  if (!player.audio.matches(":focus-visible")) setTimeout(() => player.audio.blur());
});

// Sends the form once: a second Enter does nothing while the browser loads the next page.
let leaving = false;
form.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  if (leaving) {
    event.preventDefault();
    return;
  }
  leaving = true;
  draft.leave();
  presence.leave();
});
addEventListener("pageshow", () => { leaving = false; });
