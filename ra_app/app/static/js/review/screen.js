// One clip on the screen: its player, waveform, labels, marked parts, draft and text.

import { Draft } from "./draft.js";
import { Labels } from "./labels.js";
import { Player } from "./player.js";
import { Spans } from "./spans.js";
import { Wave } from "./wave.js";

export class Screen {
  // `heard()` gives what was heard of the clip; `report(event)` records that the text was uncovered or hidden.
  constructor(root, { speed, heard, report }) {
    Object.assign(this, { root, report });
    this.clip = Number(root.dataset.clip);
    this.form = root.querySelector("#label-form");
    this.transcript = root.querySelector(".transcript");
    this.player = new Player(root, speed);
    this.draft = new Draft(root); // before the others, which read the form
    this.labels = new Labels(root, () => this.draft.save());
    this.spans = new Spans(root, this.player, () => this.changed());
    this.wave = new Wave(root, this.player, {
      spans: () => this.spans.all,
      heard,
      mark: (from, to) => this.spans.add(from, to),
    });
    this.heardBefore = JSON.parse(root.querySelector("#sound").dataset.heard || "[]");
    root.classList.add("live");
  }

  changed() {
    this.draft.save();
    this.wave?.draw();
  }

  get covered() {
    return "veil" in this.transcript.dataset && !this.transcript.classList.contains("lifted");
  }

  // Shows the text, or covers it again. Also where the study does not cover it at first.
  toggleText() {
    this.covered ? this.uncover() : this.cover();
  }

  uncover() {
    this.transcript.classList.add("lifted");
    this.report("veil-lifted");
  }

  cover() {
    if (!this.transcript.querySelector(".veil")) this.transcript.prepend(veil());
    this.transcript.dataset.veil = "";
    this.transcript.classList.remove("lifted");
  }

  // Pauses and covers the text at once.
  hide() {
    this.player.pause();
    if (!this.covered) this.cover();
    this.report("hidden");
  }

  close() {
    this.player.audio.pause();
    this.wave.close();
  }
}

function veil() {
  const line = document.createElement("p");
  line.className = "veil";
  line.append("The text is covered. ");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Show the text" });
  button.dataset.do = "text";
  line.append(button);
  return line;
}
