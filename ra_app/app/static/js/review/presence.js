// Tells the server that the reviewer is still at this clip, so that nobody else gets it: once a minute while the page is
// visible or plays. With it go the parts of the clip that were played and the time at work. The page goes on without answers.

import { post } from "./net.js";

const BEAT_MS = 60_000;
const FIRST_BEAT_MS = 3000; // the page itself has just been answered
const TICK_MS = 1000;
const MOST_PARTS = 400; // in one report; a form must not become too long because the network was away
const IDLE_MS = 60_000; // without a key, a click or a movement for this long, the reviewer counts as away
const WARN_MS = 120_000; // before the clip may go to others

export class Presence {
  // `also()` names the clips that are held for later; `tell(kind, ...)` says what the reviewer should know.
  constructor({ also, tell, worked }) {
    Object.assign(this, { also, tell, worked });
    this.leases = new Map(); // by clip: the time until which it is held
    this.acted = this.ticked = performance.now();
    for (const sign of ["keydown", "pointerdown", "pointermove"]) {
      addEventListener(sign, () => { this.acted = performance.now(); }, { passive: true });
    }
    setInterval(() => this.tick(), TICK_MS);
    setInterval(() => this.beat(), BEAT_MS);
    document.addEventListener("visibilitychange", () => this.beat(document.visibilityState === "hidden"));
    addEventListener("pagehide", () => this.beat(true));
  }

  // From now on it reports on this form and player. What was heard before stands in the page.
  follow(form, audio, heard) {
    this.form = form;
    this.audio = audio;
    this.before = heard;
    this.active = 0; // milliseconds at work since the last report
    this.parts = []; // [from, to] in seconds of the clip, since the last report
    this.part = null;
    this.events = []; // that the text was uncovered or hidden, since the last report
    this.until = this.leases.get(form.dataset.clip) ?? Infinity; // the time until which the clip is held; Infinity: unknown
    const played = (event) => { if (audio === this.audio) this.listen(event.type); };
    for (const event of ["playing", "timeupdate", "pause", "seeking", "ended"]) audio.addEventListener(event, played);
    clearTimeout(this.first);
    if (this.until === Infinity) this.first = setTimeout(() => this.beat(), FIRST_BEAT_MS);
  }

  // The server has said for how many seconds more it holds these clips for the reviewer, as it does with each label.
  held(seconds) {
    for (const [clip, left] of Object.entries(seconds ?? {})) this.leases.set(clip, Date.now() + left * 1000);
    const until = this.leases.get(this.form?.dataset.clip);
    if (until === undefined) return;
    this.until = until;
    clearTimeout(this.first);
  }

  // All that was heard of this clip: by earlier reports and since.
  get heard() {
    return [...(this.before ?? []), ...(this.parts ?? [])];
  }

  get here() {
    return document.visibilityState === "visible" || !this.audio?.paused;
  }

  tick() {
    const now = performance.now();
    const working = this.form && (!this.audio.paused || (this.here && now - this.acted < IDLE_MS));
    const spent = Math.min(now - this.ticked, 2 * TICK_MS); // a computer that slept did not work
    this.ticked = now;
    if (working) this.active += spent;
    this.worked(working ? spent : 0);
    const left = this.until - Date.now();
    if (this.form) this.tell("lease", left < WARN_MS ? Math.max(0, Math.round(left / 1000)) : null);
  }

  // What has played: from `playing`, or after a seek from the next `timeupdate`, to the last event before the end.
  listen(event) {
    const now = this.audio.currentTime;
    const playing = !this.audio.paused && !this.audio.seeking;
    if (this.part && now >= this.part[1] && event !== "seeking") this.part[1] = now;
    else if (playing) this.parts.push((this.part = [now, now]));
    if (!playing) this.part = null;
  }

  // Puts what is to be reported into the form, which a submit sends with the label.
  fill() {
    const round = (second) => Math.round(second * 1000) / 1000;
    const heard = this.parts.map((part) => part.map(round)).filter(([from, to]) => to > from);
    this.form.elements.active_ms.value = Math.round(this.active);
    this.form.elements.heard.value = JSON.stringify(heard.slice(-MOST_PARTS));
    this.form.elements.events.value = this.events.join(" ");
  }

  // The form itself brings the report to the server.
  stop() {
    if (this.form) this.fill();
    clearTimeout(this.first);
    this.form = null;
  }

  async beat(leaving = false) {
    const form = this.form;
    if (!form || !(this.here || leaving)) return;
    this.tick();
    this.fill();
    const report = ["active_ms", "heard", "events"].map((name) => [name, form.elements[name].value]);
    const { active, parts, events } = this;
    this.active = 0;
    this.events = [];
    this.before = this.heard;
    this.parts = [];
    if (this.part) this.parts.push((this.part = [this.part[1], this.part[1]]));
    const { status, data } = await post(form.dataset.heartbeat, [...report, ["also", this.also().join(" ")]], { leaving });
    if (form !== this.form) return; // another clip is shown by now
    if (status === 200 && data.seconds) this.held({ [form.dataset.clip]: data.seconds });
    if (status !== 200 && status !== 409) { // not received: report it the next time
      this.active += active;
      this.parts.unshift(...parts);
      this.events.unshift(...events);
    }
    this.tell("beat", status);
  }
}
