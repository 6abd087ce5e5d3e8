// The review screen: shows one clip after the other in place. What comes next is there before it is needed; labels go to the
// server behind the reviewer's back and wait in this browser until it has them. Without this script the page works by forms.

import { Ahead, parsed, playable, prepared } from "./ahead.js";
import { Breaks } from "./breaks.js";
import { forgetAll, tidy } from "./draft.js";
import { Help } from "./help.js";
import { Keymap, nameOf } from "./keymap.js";
import { listen } from "./keys.js";
import { writtenToDisk } from "./disk.js";
import { ended, get, post } from "./net.js";
import { Notices } from "./notices.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { Screen } from "./screen.js";
import { recover } from "./store.js";

const SKIP_S = 3;
const MOST_BACK = 10; // clips that an undo reaches
const WANT = 2; // clips that are held ahead

class Review {
  constructor(page) {
    this.page = page;
    this.notices = new Notices();
    this.keymap = new Keymap();
    this.ahead = new Ahead();
    this.back = (page.recent || "").split(" ").filter(Boolean).map(Number); // clips that are done, the newest last
    this.outbox = new Outbox(page.viewer, {
      extra: () => this.asking(),
      done: (entry, data) => this.arrived(data),
      refused: (entry, data, status) => this.refused(entry, data, status),
      waiting: (count) => this.waiting(count),
      signedOut: () => this.signedOut(),
    });
    this.presence = new Presence({
      also: () => this.ahead.clips,
      tell: (kind, value) => this.tell(kind, value),
      worked: (ms) => this.breaks?.worked(ms),
    });
    this.breaks = new Breaks(page.viewer, Number(page.breakMinutes), {
      show: (text) => { document.getElementById("break-in").textContent = text; },
      propose: () => this.proposeBreak(),
    });
    this.help = new Help(this.keymap, () => this.screen?.labels.keys ?? []);
    this.help.onChange = () => this.nameKeys();
    tidy(page.viewer);
  }

  begin() {
    document.getElementById("unloaded").remove();
    this.adopt(document.getElementById("desk"), {});
    this.ahead.first = playable(this.screen.player.audio);
    this.noted = this.screen.clip; // the server has noted that it sent this page
    this.listen();
    // The browser was closed before this clip's label had arrived: the label goes now, and then comes another clip.
    if (this.outbox.clips.includes(this.screen.clip)) this.pause("coming");
    else this.refill();
    this.outbox.send();
  }

  // --- showing clips

  show(item) {
    item.shown = true;
    if (item.ready) item.root.querySelector("#player").removeAttribute("src"); // else it would be fetched again
    const root = document.importNode(item.root, true);
    if (item.ready) root.querySelector("#player").replaceWith(item.ready);
    this.close();
    document.getElementById("desk").replaceWith(root);
    history.replaceState(null, "", item.page);
    document.title = document.title.replace(/^[^–]*–/, `Clip ${item.clip} –`);
    this.adopt(root, item);
    root.querySelector("#clip-title").focus({ preventScroll: true });
  }

  adopt(root, item) {
    this.item = item;
    this.screen = new Screen(root, {
      speed: this.speed,
      heard: () => this.presence.heard,
      report: (event) => this.presence.events.push(event), // it goes with the next report, and needs no request
    });
    this.presence.follow(this.screen.form, this.screen.player.audio, this.screen.heardBefore);
    this.screen.wave.draw();
    this.screen.form.addEventListener("submit", (event) => this.submitted(event));
    root.querySelector("form.reveal")?.addEventListener("submit", (event) => this.reveal(event));
    this.nameKeys();
    this.notices.clear("lost", "undo");
    document.getElementById("undo").hidden = !this.back.length;
    const leave = root.querySelector("[data-do=leave]");
    if (leave) leave.hidden = !item.resume;
  }

  close() {
    this.speed = this.screen?.player.speed ?? this.speed; // the next clip plays as fast
    this.screen?.close();
    this.presence.stop();
    if (this.item?.source) URL.revokeObjectURL(this.item.source);
    this.screen = this.item = null;
  }

  next() {
    const item = this.ahead.take();
    if (item) this.show(item);
    else this.pause("coming");
  }

  // Shows a page of the templates instead of a clip.
  pause(name) {
    this.close();
    document.getElementById("desk").replaceWith(document.getElementById(name).content.cloneNode(true));
    const desk = document.getElementById("desk");
    desk.querySelector("[data-do=look]")?.addEventListener("click", () => {
      this.pause("coming");
      this.refill();
    });
    desk.querySelector("h1").focus();
    document.getElementById("undo").hidden = !this.back.length;
    history.replaceState(null, "", this.page.queue);
    this.paused = name;
  }

  // --- what comes next

  asking() {
    const shown = this.screen?.clip;
    const have = [...(shown ? [shown] : []), ...this.ahead.clips, ...this.outbox.clips]; // unsent labels: not to be shown again
    const fields = [["have", have.join(" ")], ["want", WANT - this.ahead.items.length + (shown ? 0 : 1)]];
    const news = shown && shown !== this.noted ? [["showing", shown]] : [];
    this.telling = shown;
    return [...fields, ...news];
  }

  // Submits ask for what comes next, too; this is for a page without one.
  async refill() {
    const { status, data } = await post(this.page.ahead, this.asking());
    if (status === 200) this.arrived(data);
    else if (ended(status)) this.signedOut();
    else setTimeout(() => this.refill(), 5000);
  }

  arrived(data) {
    this.noted = this.telling;
    this.presence.held(data.held);
    const done = [this.screen?.clip, ...this.outbox.clips];
    this.ahead.add((data.items ?? []).filter((item) => !done.includes(item.clip)));
    if (data.progress) document.getElementById("progress").innerHTML = data.progress; // the server's own HTML
    if (data.budget === "soft") this.notices.manyMinutes();
    if (this.screen || this.outbox.entries().length) return;
    if (this.ahead.items.length) this.next();
    else if (data.items) this.pause(data.budget === "hard" ? "enough" : "no-more");
    else this.refill();
  }

  // --- what the reviewer does

  submitted(event) {
    event.preventDefault();
    const kinds = { skip: "skip", pass: "pass" };
    this.send(kinds[event.submitter?.id] ?? "submit");
  }

  send(kind) {
    const { screen, item } = this;
    if (!screen || (kind === "submit" && !screen.labels.ready())) return;
    if (kind !== "submit" && !screen.root.querySelector(`#${kind}`)) return; // a labelled clip is not set aside
    this.presence.stop();
    const url = this.address(screen.clip, kind);
    this.outbox.add(screen.clip, kind, url, [...new FormData(screen.form)]); // first: whatever happens then, this browser has it
    screen.draft.done();
    this.back = [...this.back.filter((clip) => clip !== screen.clip), screen.clip].slice(-MOST_BACK);
    this.aside = { ...this.aside, [screen.clip]: kind !== "submit" };
    this.noteLine(`Clip ${screen.clip} ${{ submit: "submitted", skip: "set aside", pass: "passed" }[kind]}.`);
    this.ahead.items = this.ahead.items.filter((other) => other.clip !== screen.clip);
    if (item?.resume) this.ahead.putBack(item.resume);
    this.next();
    this.outbox.send();
  }

  // Where the server has this clip, or takes this act on it.
  address(clip, act = "") {
    return this.page.items.replace(/0$/, act ? `${clip}/${act}` : clip);
  }

  async undo() {
    const clip = this.back.at(-1);
    if (clip === undefined || this.undoing) return;
    this.undoing = true;
    try {
      if (!(await this.outbox.settled(clip))) {
        this.notices.stillOnItsWay(clip);
        return;
      }
      await this.open(clip);
    } finally {
      this.undoing = false;
    }
  }

  // Shows a clip of before; afterwards the reviewer goes on where they were.
  async open(clip) {
    const answer = this.aside?.[clip] ? await post(this.address(clip, "take"), []) : await get(this.address(clip));
    if (ended(answer.status)) return this.signedOut();
    if (answer.status !== 200) {
      const lost = answer.status === 409;
      this.notices.notOpened(clip, lost);
      if (lost) this.back = this.back.filter((other) => other !== clip);
      return;
    }
    this.back = this.back.filter((other) => other !== clip);
    await this.goTo(answer.data.item);
  }

  async goTo(found) {
    this.noteLine("");
    const { screen, item } = this;
    const resume = item?.resume ?? (screen ? await this.again(item, screen) : null);
    this.show(Object.assign(parsed(found), { resume }));
  }

  // Goes on where the reviewer was before an undo. A change that was begun stays as a draft.
  leave() {
    const { screen, item } = this;
    if (!item?.resume) return;
    screen.draft.leave();
    this.back = [...this.back, screen.clip].slice(-MOST_BACK);
    this.show(item.resume);
  }

  // The clip that is being looked at, to be shown again later as the server has it then.
  async again(item, screen) {
    screen.draft.leave();
    await this.presence.beat(true);
    const { status, data } = await get(this.address(screen.clip));
    if (status === 200) return prepared(data.item);
    return item.root ? Object.assign(item, { ready: null, shown: false }) : null; // the network is away
  }

  async reveal(event) {
    event.preventDefault();
    const { screen, item } = this;
    screen.draft.leave();
    const { status, data } = await post(this.address(screen.clip, "reveal"), []);
    if (ended(status)) this.signedOut();
    else if (status !== 200) this.notices.notRevealed();
    else if (screen === this.screen) this.show(Object.assign(parsed(data.item), { resume: item?.resume }));
  }

  // --- what happens

  refused(entry, data, status) {
    this.arrived(data);
    if (entry.kind !== "submit") return;
    this.notices.refused(entry, data, status, {
      compare: (item) => this.goTo(item),
      open: (clip) => this.open(clip),
    });
  }

  waiting(count) {
    this.notices.waiting(count, () => this.outbox.hurry());
    if (!count && !this.screen && this.paused === "coming") this.refill(); // another tab has sent the last label
  }

  signedOut() {
    const here = this.screen ? location.pathname : this.page.queue;
    this.outbox.leaving = true; // what is unsent stays in this browser
    this.notices.signedOut(`${this.page.login}?next=${encodeURIComponent(here)}`);
  }

  tell(kind, value) {
    if (kind === "lease") this.notices.lease(this.screen.clip, value, () => this.presence.beat(true));
    else if (ended(value)) this.signedOut();
    else if (value === 409) this.notices.lost();
  }

  noteLine(text) {
    document.getElementById("said").textContent = text;
  }

  proposeBreak() {
    post(this.page.wellbeing, [["event", "break-proposed"]]);
    this.notices.breakDue({
      take: () => this.takeBreak(),
      dismiss: () => post(this.page.wellbeing, [["event", "break-dismissed"]]),
    });
  }

  takeBreak() {
    this.screen?.hide();
    post(this.page.wellbeing, [["event", "break-taken"]]);
    const dialog = document.getElementById("pause");
    dialog.showModal();
    dialog.addEventListener("close", () => this.breaks.restart(), { once: true });
  }

  // --- keys and buttons

  get actions() {
    const { screen } = this;
    const { player, spans, labels } = screen;
    return {
      play: () => player.toggle(),
      back: () => player.skip(-SKIP_S),
      forward: () => player.skip(SKIP_S),
      previous: () => player.step(-1),
      next: () => player.step(1),
      slower: () => player.faster(-1),
      faster: () => player.faster(1),
      loop: () => player.loop(),
      text: () => screen.toggleText(),
      hide: () => screen.hide(),
      mark: () => spans.toggleSentence(),
      begin: () => spans.begin(),
      end: () => spans.end(),
      confidence: () => labels.nextConfidence(),
      note: () => screen.form.elements.note.focus(),
      submit: () => this.send("submit"),
      skip: () => this.send("skip"),
      pass: () => this.send("pass"),
      leave: () => this.leave(),
      codebook: () => { const book = screen.root.querySelector("#codebook"); book.open = !book.open; },
    };
  }

  act(action) {
    const always = { undo: () => this.undo(), help: () => this.help.open() };
    const does = always[action] ?? (this.screen && this.actions[action]);
    does?.();
    return Boolean(does);
  }

  listen() {
    listen((key) => {
      if (!this.screen?.labels.keys.includes(key)) return this.act(this.keymap.action(key));
      if (this.screen.labels.toggle(key) && this.keymap.atOnce) this.send("submit");
      return true;
    }, { isOn: () => this.keymap.on, submit: () => this.send("submit") });
    document.addEventListener("click", (event) => {
      const button = event.target.closest("#desk [data-do]");
      if (button && button.dataset.do !== "look") this.act(button.dataset.do);
    });
    for (const [id, action] of [["undo", "undo"], ["help-open", "help"]]) {
      document.getElementById(id).addEventListener("click", () => this.act(action));
    }
    document.getElementById("help-open").hidden = false;
    document.querySelector("form[data-logout]")?.addEventListener("submit", (event) => this.logOut(event));
    addEventListener("pagehide", () => this.screen?.draft.leave());
    // After a mouse click, remove the focus. Otherwise Space and Enter would act on that element again instead of playing and
    // submitting. An element that is reached with Tab keeps the focus.
    document.addEventListener("pointerup", () => setTimeout(() => {
      if (document.activeElement?.matches("#desk :is(input:not([type=text]), button, summary, [role=slider])")) document.activeElement.blur();
    }));
  }

  // Drafts and labels of this browser go at the log-out, so labels that are not stored keep the reviewer here.
  logOut(event) {
    const unsent = this.outbox.entries().length;
    if (unsent && !this.warned) {
      event.preventDefault();
      this.warned = true;
      this.notices.unsentAtLogOut(unsent);
      this.outbox.hurry();
      return;
    }
    event.preventDefault();
    this.outbox.leaving = true;
    if (this.screen) this.screen.draft.closed = true;
    forgetAll(this.page.viewer);
    writtenToDisk().then(() => event.target.submit());
  }

  // Writes each key beside what it does. A key that is a label's does nothing else.
  nameKeys() {
    const labels = this.screen?.labels.keys ?? [];
    for (const place of document.querySelectorAll("[data-key-of]")) {
      const key = this.keymap.key(place.dataset.keyOf);
      place.textContent = labels.includes(key) ? "–" : nameOf(key);
    }
  }
}

await recover();
new Review(document.getElementById("review").dataset).begin();
