// Proposes a break after some time at work without one. A while away from the page counts as a break.

import { drop, keep, kept } from "./store.js";

const WORKED = "worked:";
const AWAY_MS = 5 * 60_000;

export class Breaks {
  constructor(viewer, minutes, { show, propose }) {
    Object.assign(this, { minutes, show, propose });
    this.name = WORKED + viewer;
    const { ms = 0, at = 0 } = kept(this.name) ?? {};
    this.ms = Date.now() - at < AWAY_MS ? ms : 0;
    this.idle = 0;
    this.say();
  }

  // Adds milliseconds at work; 0: a second without work.
  worked(ms) {
    if (!this.minutes) return;
    if (ms) {
      this.ms += ms;
      this.idle = 0;
      keep(this.name, { ms: this.ms, at: Date.now() });
    } else {
      this.idle += 1000;
      if (this.idle >= AWAY_MS) this.restart();
    }
    this.say();
  }

  say() {
    if (!this.minutes) return;
    const left = Math.ceil(this.minutes - this.ms / 60_000);
    this.show(left > 0 ? `break in ${left} min` : "time for a break");
    if (left <= 0 && !this.proposed) {
      this.proposed = true;
      this.propose();
    }
  }

  restart() {
    this.ms = 0;
    this.proposed = false;
    drop(this.name);
    this.say();
  }
}
