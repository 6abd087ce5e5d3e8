// The audio player and the transcript: a click on a sentence seeks to it, and the sentence that plays is highlighted.

export class Player {
  constructor(audio, segments, problem) {
    this.audio = audio;
    this.segments = segments.map((element) => ({
      element,
      start: Number(element.dataset.start),
      end: Number(element.dataset.end),
    }));
    this.lit = null;
    for (const segment of this.segments) {
      segment.element.addEventListener("click", () => this.seek(segment.start));
    }
    audio.addEventListener("timeupdate", () => this.light());
    audio.addEventListener("seeking", () => this.light());
    audio.addEventListener("error", () => { problem.hidden = false; });
    audio.addEventListener("loadeddata", () => { problem.hidden = true; });
    if (audio.error) problem.hidden = false; // loading may have failed before this module ran
  }

  toggle() {
    if (this.audio.paused) {
      this.audio.play().catch(() => {}); // the error event shows the problem
    } else {
      this.audio.pause();
    }
  }

  seek(seconds) {
    const end = Number.isFinite(this.audio.duration) ? this.audio.duration : Infinity;
    this.audio.currentTime = Math.min(Math.max(seconds, 0), end);
  }

  skip(seconds) {
    this.seek(this.audio.currentTime + seconds);
  }

  // Seeks to the previous (-1) or the next (1) sentence.
  step(direction) {
    const now = this.audio.currentTime;
    const near = direction > 0
      ? this.segments.find((segment) => segment.start > now + 0.05)
      : this.segments.findLast((segment) => segment.start < now - 0.75); // from within a sentence: to its start
    if (near) this.seek(near.start);
  }

  light() {
    const now = this.audio.currentTime;
    const current = this.segments.find((segment) => now >= segment.start && now < segment.end) ?? null;
    if (current === this.lit) return;
    this.lit?.element.removeAttribute("aria-current");
    current?.element.setAttribute("aria-current", "true");
    current?.element.scrollIntoView({ block: "nearest" });
    this.lit = current;
  }
}
