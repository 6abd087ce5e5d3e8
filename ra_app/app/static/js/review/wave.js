// The waveform: what the clip holds, the marked parts, and in a strip below what has been heard. It is a slider for keys and
// screen readers. A click seeks; dragging marks a part.

import { clock } from "./player.js";

const STRIP = 8; // pixels, of the strip of what was heard
const DRAG = 6; // pixels; less is a click
const STEP_S = 1;
const LEAP_S = 10;
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Wave {
  constructor(root, player, { spans, heard, mark }) {
    Object.assign(this, { player, spans, heard });
    this.box = root.querySelector(".wave");
    this.canvas = this.box.querySelector("canvas");
    this.slider = this.box.querySelector("#seek");
    this.peaks = Uint8Array.from(atob(root.querySelector("#sound").dataset.peaks), (byte) => byte.charCodeAt(0));
    this.box.hidden = false;
    this.head = document.createElement("div");
    this.head.className = "head";
    this.slider.append(this.head);
    this.slider.addEventListener("keydown", (event) => this.key(event));
    this.slider.addEventListener("pointerdown", (event) => this.press(event, mark));
    for (const name of ["timeupdate", "seeking", "loadedmetadata"]) player.audio.addEventListener(name, () => this.move());
    player.audio.addEventListener("play", () => this.follow());
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.box);
    this.themed = () => this.draw();
    addEventListener("theme", this.themed); // page.js
    dark.addEventListener("change", this.themed);
    this.move();
  }

  close() {
    this.resized.disconnect();
    removeEventListener("theme", this.themed);
    dark.removeEventListener("change", this.themed);
    this.closed = true;
  }

  follow() {
    this.move();
    if (!this.player.audio.paused && !this.closed) requestAnimationFrame(() => this.follow());
  }

  move() {
    const { now, duration } = this.player;
    this.head.style.left = `${duration ? Math.min(100, (100 * now) / duration) : 0}%`;
    const second = Math.floor(now);
    const told = `${clock(now)} of ${clock(duration || 0)}`;
    if (told === this.told) return;
    this.told = told;
    this.slider.setAttribute("aria-valuemax", String(Math.floor(duration || 0)));
    this.slider.setAttribute("aria-valuenow", String(second));
    this.slider.setAttribute("aria-valuetext", told);
    this.draw();
  }

  key(event) {
    const { now, duration } = this.player;
    const to = {
      ArrowLeft: now - STEP_S, ArrowDown: now - STEP_S, ArrowRight: now + STEP_S, ArrowUp: now + STEP_S,
      PageDown: now - LEAP_S, PageUp: now + LEAP_S, Home: 0, End: duration,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation(); // else the page's own arrow keys act as well
    this.player.seek(to);
  }

  press(event, mark) {
    if (event.button !== 0) return;
    const from = this.at(event);
    const drag = (moved) => {
      const far = Math.abs(moved.clientX - event.clientX) > DRAG;
      this.dragged = far ? [from, this.at(moved)].sort((a, b) => a - b) : null;
      this.draw();
    };
    const release = () => {
      this.slider.removeEventListener("pointermove", drag);
      if (this.dragged) mark(...this.dragged);
      else this.player.seek(from);
      this.dragged = null;
      this.draw();
    };
    this.slider.setPointerCapture(event.pointerId);
    this.slider.addEventListener("pointermove", drag);
    this.slider.addEventListener("pointerup", release, { once: true });
  }

  // The second of the clip under the pointer.
  at(event) {
    const { left, width } = this.slider.getBoundingClientRect();
    return (Math.min(Math.max(event.clientX - left, 0), width) / width) * (this.player.duration || 0);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.box;
    const dots = window.devicePixelRatio || 1;
    if (!width) return;
    if (this.canvas.width !== width * dots || this.canvas.height !== height * dots) {
      this.canvas.width = width * dots;
      this.canvas.height = height * dots;
    }
    const pen = this.canvas.getContext("2d");
    const color = (name) => getComputedStyle(this.box).getPropertyValue(name).trim();
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, width, height);
    const x = (second) => (second / (this.player.duration || 1)) * width;
    const parts = (list, top, tall) => list.forEach(([from, to]) => pen.fillRect(x(from), top, Math.max(1, x(to) - x(from)), tall));
    pen.fillStyle = color("--marked");
    parts([...this.spans(), ...(this.dragged ? [this.dragged] : [])], 0, height - STRIP);
    this.drawPeaks(pen, width, height - STRIP, color);
    pen.fillStyle = color("--line");
    pen.fillRect(0, height - STRIP + 2, width, STRIP - 2);
    pen.fillStyle = color("--accent");
    parts(this.heard(), height - STRIP + 2, STRIP - 2);
  }

  drawPeaks(pen, width, height, color) {
    const loudest = Math.max(...this.peaks, 1); // a quiet clip is to be seen, too
    const each = width / this.peaks.length;
    pen.fillStyle = color("--wave");
    if (!this.peaks.length) pen.fillRect(0, height / 2, width, 1);
    this.peaks.forEach((peak, n) => {
      const tall = Math.max(1, (peak / loudest) * (height - 8));
      pen.fillRect(n * each, (height - tall) / 2, Math.max(each - 0.5, 0.5), tall);
    });
  }
}
