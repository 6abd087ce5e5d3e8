// Keeps the unsent content of the label form until the label is stored: the session may end, or the page may be closed by
// mistake. The draft stays in this tab (sessionStorage). It belongs to one reviewer, one clip and the number of labels that
// the clip has. Log-out deletes it.

const PREFIX = "draft:";

export class Draft {
  constructor(form, notice) {
    this.form = form;
    this.person = `${PREFIX}${form.dataset.viewer}:`;
    this.name = `${this.person}${form.dataset.clip}:${form.dataset.revisions}`;
    this.empty = this.read();
    this.forget((name) => !name.startsWith(this.person)); // drafts of other reviewers in this tab
    notice.hidden = !this.restore();
    form.addEventListener("input", () => this.save());
    form.addEventListener("submit", () => this.save());
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
      else sessionStorage.setItem(this.name, now);
    } catch {
      // The browser forbids storage, or it is full: there is no draft then.
    }
  }

  restore() {
    let kept;
    try {
      kept = JSON.parse(sessionStorage.getItem(this.name));
    } catch {
      return false;
    }
    if (!kept || JSON.stringify(kept) === this.empty) return false;
    const [labels, confidence, note] = kept;
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
