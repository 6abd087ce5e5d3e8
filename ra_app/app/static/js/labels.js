// The label form: clears the other labels when an exclusive one is chosen, shows the definition of the focused label, and asks
// for at least one label before a submit.

export class Labels {
  constructor(form, definitions, problem) {
    this.form = form;
    this.definitions = definitions;
    this.problem = problem;
    this.boxes = [...form.querySelectorAll("input[name=label]")];
    definitions.classList.add("one");
    for (const box of this.boxes) {
      box.addEventListener("change", () => this.changed(box));
      box.addEventListener("focus", () => this.define(box.value));
      box.closest("label").addEventListener("pointerenter", () => this.define(box.value));
    }
    form.addEventListener("submit", (event) => this.check(event));
    this.define((this.boxes.find((box) => box.checked) ?? this.boxes[0]).value);
  }

  toggle(key) {
    const box = this.boxes.find((candidate) => candidate.dataset.key === key);
    if (!box) return false;
    box.checked = !box.checked;
    this.changed(box);
    return true;
  }

  changed(box) {
    if (box.checked) {
      for (const other of this.boxes) {
        const excluded = "exclusive" in box.dataset || "exclusive" in other.dataset;
        if (other !== box && excluded) other.checked = false;
      }
      this.problem.hidden = true;
    }
    this.define(box.value);
  }

  define(code) {
    for (const article of this.definitions.children) {
      article.classList.toggle("shown", article.dataset.code === code);
    }
    this.definitions.scrollTop = 0;
  }

  check(event) {
    const skipping = event.submitter?.id === "skip";
    if (skipping || this.boxes.some((box) => box.checked)) return;
    event.preventDefault();
    this.problem.textContent = "Choose at least one label before you submit.";
    this.problem.hidden = false;
  }
}
