// Keeps the unsent content of the label form until the label is stored: the session may end, the network be away, or the tab
// be closed by mistake. The draft stays in this browser, and a moment after each change it goes to the server, too. It belongs
// to one reviewer, one clip and the number of labels that the clip has.

import { drop, keep, kept, names } from "./store.js";
import { post } from "./net.js";

const DRAFT = "draft:";
const DRAFT_PAUSE_MS = 5000; // from the last change to the message to the server; this browser has it at once
const DRAFT_DAYS = 7;
const MOST_SENT = 8;

export class Draft {
  constructor(root) {
    this.form = root.querySelector("#label-form");
    this.name = `${DRAFT}${this.form.dataset.viewer}:${this.form.dataset.clip}:${this.form.dataset.revisions}`;
    this.empty = this.reported = this.read();
    this.known = Number(this.form.dataset.draftAt); // when the server stored the newest draft that this browser knows of
    this.sent = []; // what went to the server, also without an answer
    if (this.restore()) {
      root.querySelector("#draft").hidden = false;
      this.save(); // this browser has what the server may lack
    }
    this.form.addEventListener("input", () => this.save());
  }

  read() {
    const data = new FormData(this.form);
    const answers = [...data].filter(([name]) => name.startsWith("answer."));
    const asked = this.form.querySelector(".question") ? [answers] : [];
    return JSON.stringify([data.getAll("label"), data.get("confidence"), data.get("note"), data.get("spans"), ...asked]);
  }

  save() {
    const now = this.read();
    // With something else sent before, an unchanged form is news, too.
    if (now === this.empty && this.sent.every((sent) => sent === now)) drop(this.name);
    else keep(this.name, { content: JSON.parse(now), at: Date.now(), known: this.known, sent: this.sent });
    clearTimeout(this.timer);
    if (now !== this.reported) this.timer = setTimeout(() => this.flush(), DRAFT_PAUSE_MS);
  }

  // Sends the content to the server. If that fails, the next change tries again, and this browser has it meanwhile.
  async flush(leaving = false) {
    clearTimeout(this.timer);
    const now = this.read();
    if (now === this.reported || this.closed) return;
    this.sent = [...this.sent.filter((sent) => sent !== now), now].slice(-MOST_SENT);
    this.save();
    clearTimeout(this.timer);
    const { status, data } = await post(this.form.dataset.draft, [...new FormData(this.form)], { leaving });
    if (status !== 200 || this.closed) return;
    this.reported = now;
    this.known = data.at;
    this.save(); // there may be more by now
  }

  restore() {
    const { content, at, known, sent = [] } = kept(this.name) ?? {};
    if (!content || JSON.stringify(content) === this.empty) return false;
    // What the page shows may be newer, from another browser. But it may also be what this browser has sent before that.
    const ours = this.known === known || sent.some((earlier) => same(earlier, this.empty));
    if (at < this.known && !ours) return false;
    this.sent = sent;
    const [labels, confidence, note, spans, answers = []] = content;
    for (const option of this.form.querySelectorAll(".question input")) {
      option.checked = answers.some(([name, code]) => name === option.name && code === option.value);
    }
    for (const box of this.form.querySelectorAll("[name=label]")) box.checked = labels.includes(box.value);
    for (const choice of this.form.querySelectorAll("[name=confidence]")) choice.checked = choice.value === confidence;
    this.form.elements.note.value = note;
    this.form.elements.spans.value = spans ?? "[]";
    return true;
  }

  // The form is on its way as a label: the outbox keeps it from now on.
  done() {
    clearTimeout(this.timer);
    this.closed = true;
    drop(this.name);
  }

  // Another clip is shown; the draft stays.
  leave() {
    this.flush(true);
    clearTimeout(this.timer);
  }
}

// Whether two contents are the same after the server has read them.
function same(...contents) {
  const [one, other] = contents.map((content) => {
    const [labels, confidence, note, spans, answers = []] = JSON.parse(content);
    return JSON.stringify([labels, confidence, note.trim(), JSON.parse(spans || "[]"), answers]);
  });
  return one === other;
}

// Deletes drafts of other reviewers and of long ago.
export function tidy(viewer) {
  for (const name of names(DRAFT)) {
    const old = Date.now() - (kept(name)?.at ?? 0) > DRAFT_DAYS * 86_400_000;
    if (old || !name.startsWith(`${DRAFT}${viewer}:`)) drop(name);
  }
}

// At the log-out: nothing of this reviewer stays in this browser.
export function forgetAll(viewer) {
  for (const name of [...names(DRAFT), ...names(`unsent:${viewer}:`), ...names("worked:")]) drop(name);
}
