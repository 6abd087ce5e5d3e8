// Tells the server that the reviewer is still at this clip, so that nobody else gets it: once a minute while the page is
// visible or plays. With it go the parts of the clip that were played and the time at work. The page goes on without answers.

const EVERY_MS = 60_000;
const TICK_MS = 1000;
const MOST_PARTS = 400; // in one report; a form must not become too long because the network was away
const IDLE_MS = 60_000; // without a key, a click or a movement for this long, the reviewer counts as away

export class Presence {
  constructor(form, audio, notice) {
    this.form = form;
    this.audio = audio;
    this.notice = notice;
    this.active = 0; // milliseconds at work since the last report
    this.parts = []; // [from, to] in seconds of the clip, since the last report
    this.part = null;
    this.acted = performance.now();
    this.ticked = this.acted;
    for (const sign of ["keydown", "pointerdown", "pointermove"]) {
      addEventListener(sign, () => { this.acted = performance.now(); }, { passive: true });
    }
    audio.addEventListener("timeupdate", () => this.listen());
    for (const end of ["pause", "seeking", "ended"]) audio.addEventListener(end, () => { this.part = null; });
    setInterval(() => this.tick(), TICK_MS);
    setInterval(() => this.beat(), EVERY_MS);
    document.addEventListener("visibilitychange", () => this.beat(document.visibilityState === "hidden"));
    addEventListener("pagehide", () => this.beat(true));
    addEventListener("pageshow", () => { this.sent = false; });
    this.beat();
  }

  get here() {
    return document.visibilityState === "visible" || !this.audio.paused;
  }

  tick() {
    const now = performance.now();
    const working = !this.audio.paused || (this.here && now - this.acted < IDLE_MS);
    if (working) this.active += Math.min(now - this.ticked, 2 * TICK_MS); // a computer that slept did not work
    this.ticked = now;
  }

  listen() {
    const now = this.audio.currentTime;
    if (this.audio.paused || this.audio.seeking) return;
    if (this.part && now >= this.part[1]) this.part[1] = now;
    else this.parts.push((this.part = [now, now]));
  }

  // Puts what is to be reported into the form, which a submit sends with the label.
  fill() {
    const heard = this.parts.filter(([from, to]) => to > from).map((part) => part.map((at) => Math.round(at * 1000) / 1000));
    this.form.elements.active_ms.value = Math.round(this.active);
    this.form.elements.heard.value = JSON.stringify(heard.filter(([from, to]) => to > from).slice(-MOST_PARTS));
  }

  // The form itself brings the report to the server.
  leave() {
    this.fill();
    this.sent = true;
  }

  async beat(leaving = false) {
    if (this.sent || !(this.here || leaving)) return;
    this.tick();
    this.fill();
    const report = new FormData();
    for (const name of ["csrf_token", "active_ms", "heard"]) report.set(name, this.form.elements[name].value);
    const [active, parts] = [this.active, this.parts];
    this.active = 0;
    this.parts = [];
    if (this.part) this.parts.push((this.part = [this.part[1], this.part[1]]));
    const put = () => { // not received: report it the next time
      this.active += active;
      this.parts.unshift(...parts);
    };
    try {
      const answer = await fetch(this.form.dataset.heartbeat, { method: "POST", body: report, keepalive: leaving });
      await answer.text(); // an answer that is not read keeps the connection busy
      if (!answer.ok && answer.status !== 409) put();
      if (answer.status === 401) this.say("Your session has ended. Submit to log in again; what you chose and wrote is kept.");
      else if (answer.status === 409) this.say("Somebody else has this clip by now. What you chose and wrote is kept as a draft.");
      else if (answer.ok) this.notice.hidden = true;
    } catch {
      put();
    }
  }

  say(sentence) {
    this.notice.textContent = sentence;
    this.notice.hidden = false;
  }
}
