// What is chosen and written on a clip and not yet sent, kept until it is stored: the session may end, or the page close by
// mistake. It stays in this tab (sessionStorage), belongs to one reviewer and one state of the clip, and goes at log-out.

const PREFIX = "draft:";

export class Draft {
  constructor(form, notice) {
    this.form = form;
    this.person = `${PREFIX}${form.dataset.viewer}:`;
    this.name = `${this.person}${form.dataset.clip}:${form.dataset.revisions}`;
    this.empty = this.read();
    this.forget((name) => !name.startsWith(this.person)); // of whoever used this tab before
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
      // Storage is forbidden or full: nothing is kept then.
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
      // Storage is forbidden: there is nothing to forget.
    }
  }
}
