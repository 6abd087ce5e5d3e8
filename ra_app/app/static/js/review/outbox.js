// Labels on their way to the server. Each is kept in this browser until the server has answered. They go one after the other;
// what gets no answer is sent again, which the server recognizes by the key of the form.

import { drop, keep, kept, names } from "./store.js";
import { ended, passing, post } from "./net.js";

const UNSENT = "unsent:";
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

export class Outbox {
  // `extra()` gives the fields that go with every form; the others are told what came of it.
  constructor(viewer, { extra, done, refused, waiting, signedOut }) {
    this.prefix = `${UNSENT}${viewer}:`;
    Object.assign(this, { extra, done, refused, waiting, signedOut });
    this.pause = FIRST_PAUSE_MS;
    addEventListener("online", () => this.hurry());
    addEventListener("beforeunload", (event) => {
      if (this.entries().length && !this.leaving) event.preventDefault();
    });
  }

  entries() {
    return names(this.prefix).map(kept).filter(Boolean).sort((a, b) => a.at - b.at);
  }

  // Keeps the form. It goes with the next `send`.
  add(clip, kind, url, fields) {
    const key = fields.find(([name]) => name === "submission_key")[1];
    keep(this.prefix + key, { key, clip, kind, url, fields, at: Date.now() });
  }

  get clips() {
    return this.entries().map((entry) => entry.clip);
  }

  hurry() {
    this.pause = FIRST_PAUSE_MS;
    this.wake?.();
    this.send();
  }

  async send() {
    if (this.busy) return;
    this.busy = true;
    try {
      await this.sendAll();
    } finally {
      this.busy = false;
    }
    if (!this.entries().length) this.waiting(0);
  }

  async sendAll() {
    for (let entry = this.entries()[0]; entry; entry = this.entries()[0]) {
      const { status, data } = await post(entry.url, [...entry.fields, ...this.extra()]);
      if (ended(status)) {
        this.signedOut();
        break;
      }
      if (passing(status)) {
        this.waiting(this.entries().length);
        await new Promise((wake) => { this.wake = wake; setTimeout(wake, this.pause); });
        this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
        continue;
      }
      this.pause = FIRST_PAUSE_MS;
      drop(this.prefix + entry.key);
      if (status === 200) this.done(entry, data);
      else this.refused(entry, data, status);
    }
  }

  // Waits until nothing of this clip is on its way. False: it takes too long.
  async settled(clip, patience = 10_000) {
    const until = performance.now() + patience;
    while (this.entries().some((entry) => entry.clip === clip)) {
      if (performance.now() > until) return false;
      await new Promise((wake) => setTimeout(wake, 20));
    }
    return true;
  }
}
