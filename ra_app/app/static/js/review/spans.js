// The marked parts of a clip. They stand in the form, so drafts and labels hold them.

import { clock } from "./player.js";

const MOST_SPANS = 50;
const SHORTEST_S = 0.1;

export class Spans {
  constructor(root, player, changed) {
    this.field = root.querySelector("#label-form").elements.spans;
    this.list = root.querySelector("#spans");
    Object.assign(this, { player, changed });
    this.show();
  }

  get all() {
    try {
      return JSON.parse(this.field.value || "[]");
    } catch {
      return [];
    }
  }

  set all(spans) {
    this.field.value = JSON.stringify(spans.sort((a, b) => a[0] - b[0]));
    this.show();
    this.changed();
  }

  add(from, to) {
    const span = [from, Math.min(to, this.player.duration || to)].map((second) => Math.round(second * 1000) / 1000);
    const known = this.all.some(([start, end]) => start === span[0] && end === span[1]);
    if (span[1] - span[0] >= SHORTEST_S && !known && this.all.length < MOST_SPANS) this.all = [...this.all, span];
  }

  // Marks the sentence that plays; a second time takes the mark away.
  toggleSentence() {
    const sentence = this.player.sentence;
    if (!sentence) return;
    const at = this.all.findIndex(([from, to]) => from === sentence.start && to === Math.min(sentence.end, this.player.duration || sentence.end));
    if (at < 0) this.add(sentence.start, sentence.end);
    else this.remove(at);
  }

  begin() {
    this.from = this.player.now;
    this.list.dataset.from = `${clock(this.from)} …`;
  }

  end() {
    if (this.from !== undefined && this.player.now > this.from) this.add(this.from, this.player.now);
    this.from = undefined;
    delete this.list.dataset.from;
  }

  remove(at) {
    this.all = this.all.filter((_, n) => n !== at);
  }

  show() {
    this.list.replaceChildren(...this.all.map(([from, to], n) => {
      const line = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${clock(from)}–${clock(to)} ×`;
      button.setAttribute("aria-label", `Remove the marked part from ${clock(from)} to ${clock(to)}`);
      button.addEventListener("click", () => this.remove(n));
      line.append(button);
      return line;
    }));
  }
}
