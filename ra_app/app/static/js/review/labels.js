// The label form: clears the other labels when an exclusive one is chosen, shows the definition of the focused label, and says
// in line when a submit lacks a label.

export class Labels {
  constructor(root, changed) {
    this.form = root.querySelector("#label-form");
    this.definitions = root.querySelector(".definitions");
    this.problem = root.querySelector("#problem");
    this.changed = changed;
    this.boxes = [...this.form.querySelectorAll("input[name=label]")];
    this.definitions.classList.add("one");
    for (const box of this.boxes) {
      box.addEventListener("change", () => this.chose(box));
      box.addEventListener("focus", () => this.define(box.value));
      box.closest("label").addEventListener("pointerenter", () => this.define(box.value));
    }
    this.define((this.boxes.find((box) => box.checked) ?? this.boxes[0]).value);
  }

  get keys() {
    return this.boxes.map((box) => box.dataset.key);
  }

  // Returns whether a label was chosen that stands alone.
  toggle(key) {
    const box = this.boxes.find((candidate) => candidate.dataset.key === key);
    box.checked = !box.checked;
    this.chose(box);
    this.changed();
    return box.checked && "exclusive" in box.dataset;
  }

  chose(box) {
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
    for (const article of this.definitions.children) article.classList.toggle("shown", article.dataset.code === code);
    this.definitions.scrollTop = 0;
  }

  nextConfidence() {
    const choices = [...this.form.querySelectorAll("[name=confidence]")];
    const next = choices[choices.findIndex((choice) => choice.checked) + 1];
    for (const choice of choices) choice.checked = choice === next;
    this.changed();
  }

  // Whether the form may be submitted. If not, the form says why.
  ready() {
    if (this.boxes.some((box) => box.checked)) return true;
    this.say("Choose at least one label before you submit.");
    return false;
  }

  say(sentence) {
    this.problem.textContent = sentence;
    this.problem.hidden = false;
  }
}
