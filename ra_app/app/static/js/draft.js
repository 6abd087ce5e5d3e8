// Keeps the unsent content of the label form until the label is stored: the session may end, or the page may be closed by
// mistake. The draft stays in this tab (sessionStorage), and a moment after each change it goes to the server, too. It belongs
// to one reviewer, one clip and the number of labels that the clip has. Log-out deletes it in the browser.

const PREFIX = "draft:";
const PAUSE_MS = 1500; // from the last change to the message to the server

export class Draft {
  constructor(form, notice) {
    this.form = form;
    this.person = `${PREFIX}${form.dataset.viewer}:`;
    this.name = `${this.person}${form.dataset.clip}:${form.dataset.revisions}`;
    this.empty = this.read();
    this.forget((name) => !name.startsWith(this.person)); // drafts of other reviewers in this tab
    if (this.restore()) notice.hidden = false;
    form.addEventListener("input", () => this.save());
    form.addEventListener("submit", () => this.save());
    addEventListener("pagehide", () => this.flush(true));
    addEventListener("pageshow", () => { this.sent = false; });
    document.querySelector("form[data-logout]")?.addEventListener("submit", () => this.forget(() => true));
  }

  read() {
    const data = new FormData(this.form);
    return JSON.stringify([data.getAll("label"), data.get("confidence"), data.get("note")]);
  }

  save() {
    const now = this.read();
    try {
      if (now === this.empty) sessionStorage.removeItem(this.name);
      else sessionStorage.setItem(this.name, JSON.stringify([...JSON.parse(now), Date.now()]));
    } catch {
      // The browser forbids storage, or it is full: there is no draft in this tab then.
    }
    if (now === this.reported) return;
    this.waiting = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), PAUSE_MS);
  }

  // The form itself brings the content to the server.
  leave() {
    this.sent = true;
  }

  // Sends the content to the server. If that fails, the draft in this tab is still there, and the next change tries again.
  flush(leaving = false) {
    clearTimeout(this.timer);
    if (!this.waiting || this.sent) return;
    this.waiting = false;
    const now = this.read();
    fetch(this.form.dataset.draft, { method: "POST", body: new FormData(this.form), keepalive: leaving })
      .then(async (answer) => {
        await answer.text(); // an answer that is not read keeps the connection busy
        if (answer.ok) this.reported = now;
      })
      .catch(() => {});
  }

  restore() {
    let kept;
    try {
      kept = JSON.parse(sessionStorage.getItem(this.name));
    } catch {
      return false;
    }
    if (!kept || JSON.stringify(kept.slice(0, 3)) === this.empty) return false;
    const [labels, confidence, note, at] = kept;
    if (at < Number(this.form.dataset.draftAt)) return false; // the server has a newer one, which the page shows
    for (const box of this.form.querySelectorAll("[name=label]")) box.checked = labels.includes(box.value);
    for (const choice of this.form.querySelectorAll("[name=confidence]")) choice.checked = choice.value === confidence;
    this.form.elements.note.value = note;
    return true;
  }

  forget(which) {
    try {
      for (const name of Object.keys(sessionStorage)) {
        if (name.startsWith(PREFIX) && which(name)) sessionStorage.removeItem(name);
      }
    } catch {
      // The browser forbids storage: there are no drafts.
    }
  }
}
