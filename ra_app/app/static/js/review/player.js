// Plays the clip. A click on a sentence seeks to it; the sentence and the word that play are highlighted.

import { Sound } from "./sound.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const BACK_UP_S = 1.5; // after a pause, playing goes on a little earlier
export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

export class Player {
  constructor(root, speed) {
    this.audio = root.querySelector("#player");
    this.box = root.querySelector("#sound");
    this.sound = new Sound(this.audio, this.box.dataset);
    this.tools = root.querySelector(".tools");
    this.segments = [...root.querySelectorAll(".segment")].map((element) => ({
      element,
      start: Number(element.dataset.start),
      end: Number(element.dataset.end),
      words: [...element.querySelectorAll(".word")].map((word) => ({ element: word, start: Number(word.dataset.at) })),
    }));
    this.audio.controls = false;
    this.tools.hidden = false;
    for (const segment of this.segments) segment.element.addEventListener("click", () => this.seek(segment.start));
    const problem = root.querySelector("#audio-problem");
    this.audio.addEventListener("error", () => { problem.hidden = false; });
    this.audio.addEventListener("loadeddata", () => { problem.hidden = true; });
    if (this.audio.error) problem.hidden = false; // loading may have failed before this module ran
    for (const name of ["timeupdate", "seeking", "loadedmetadata"]) this.audio.addEventListener(name, () => this.show());
    for (const name of ["play", "pause", "ended"]) this.audio.addEventListener(name, () => this.playing());
    this.rate(speed);
    this.show();
  }

  get duration() {
    return Number.isFinite(this.audio.duration) ? this.audio.duration : Number(this.box.dataset.seconds);
  }

  get now() {
    return this.audio.currentTime;
  }

  toggle() {
    if (!this.audio.paused) {
      this.pause();
      return;
    }
    if (this.paused && !this.audio.ended) this.seek(this.now - BACK_UP_S);
    this.paused = false;
    this.sound.begin();
    this.audio.play().catch(() => {}); // the error event shows the problem
  }

  pause() {
    this.paused = !this.audio.paused;
    this.audio.pause();
  }

  seek(seconds) {
    this.paused = false; // to a place that was chosen: no backing up
    this.audio.currentTime = Math.min(Math.max(seconds, 0), this.duration || Infinity);
  }

  skip(seconds) {
    this.seek(this.now + seconds);
  }

  // Seeks to the previous (-1) or the next (1) sentence.
  step(direction) {
    const near = direction > 0
      ? this.segments.find((segment) => segment.start > this.now + 0.05)
      : this.segments.findLast((segment) => segment.start < this.now - 0.75); // from within a sentence: to its start
    if (near) this.seek(near.start);
  }

  // The sentence that plays, or the last one before this moment.
  get sentence() {
    return this.segments.findLast((segment) => segment.start <= this.now + 0.05) ?? null;
  }

  faster(steps) {
    const at = SPEEDS.indexOf(this.speed) + steps;
    this.rate(SPEEDS[Math.min(Math.max(at, 0), SPEEDS.length - 1)]);
  }

  rate(speed) {
    this.speed = SPEEDS.includes(speed) ? speed : 1;
    this.audio.defaultPlaybackRate = this.audio.playbackRate = this.speed;
    this.tools.querySelector("#speed").textContent = `${this.speed}×`;
  }

  loop() {
    this.audio.loop = !this.audio.loop;
    this.tools.querySelector("[data-do=loop]").setAttribute("aria-pressed", String(this.audio.loop));
  }

  playing() {
    this.tools.querySelector("[data-do=play] span").textContent = this.audio.paused ? "Play" : "Pause";
    this.show();
  }

  show() {
    this.tools.querySelector("#time").textContent = `${clock(this.now)} / ${clock(this.duration || 0)}`;
    const current = this.segments.find((segment) => this.now >= segment.start && this.now < segment.end) ?? null;
    this.light("word", current?.words.findLast((word) => word.start <= this.now)?.element ?? null);
    if (this.light("segment", current?.element ?? null)) current?.element.scrollIntoView({ block: "nearest" });
  }

  light(what, element) {
    if (this[what] === element) return false;
    this[what]?.removeAttribute("aria-current");
    element?.setAttribute("aria-current", "true");
    this[what] = element;
    return true;
  }
}
