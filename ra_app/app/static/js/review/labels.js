// The label form: clears the other labels when an exclusive one is chosen, shows the definition of the focused label, asks what
// the chosen labels ask for, and says in line when a submit lacks a label or an answer.

export class Labels {
  constructor(root, changed) {
    this.form = root.querySelector("#label-form");
    this.definitions = root.querySelector(".definitions");
    this.problem = root.querySelector("#problem");
    this.changed = changed;
    this.boxes = [...this.form.querySelectorAll("input[name=label]")];
    this.single = "single" in this.form.querySelector(".labels").dataset;
    this.questions = [...this.form.querySelectorAll(".question")];
    this.options = this.questions.flatMap((question) => [...question.querySelectorAll("input")]);
    this.definitions.classList.add("one");
    for (const option of this.options) option.addEventListener("change", () => { this.problem.hidden = true; });
    for (const box of this.boxes) {
      box.addEventListener("change", () => this.chose(box));
      box.addEventListener("focus", () => this.define(box.value));
      box.closest("label").addEventListener("pointerenter", () => this.define(box.value));
    }
    this.define((this.boxes.find((box) => box.checked) ?? this.boxes[0]).value);
    this.ask();
  }

  // Also those of options that are not asked for now: a key means one thing.
  get keys() {
    return [...this.boxes, ...this.options].map((box) => box.dataset.key).filter(Boolean);
  }

  // Returns whether a label was chosen that stands alone.
  toggle(key) {
    const box = [...this.boxes, ...this.options].find((candidate) => candidate.dataset.key === key);
    if (box.closest(".question.off")) return false;
    box.checked = !box.checked;
    if (this.boxes.includes(box)) this.chose(box);
    else this.problem.hidden = true;
    this.changed();
    return box.checked && "exclusive" in box.dataset;
  }

  // Shows the questions that the chosen labels ask. An answer stays when its question goes; the server does not store it then.
  ask() {
    const chosen = this.boxes.filter((box) => box.checked).map((box) => box.value);
    for (const question of this.questions) {
      const codes = question.dataset.when.split(" ").filter(Boolean);
      question.classList.toggle("off", codes.length > 0 && !codes.some((code) => chosen.includes(code)));
    }
  }

  chose(box) {
    if (box.checked) {
      for (const other of this.boxes) {
        const excluded = this.single || "exclusive" in box.dataset || "exclusive" in other.dataset;
        if (other !== box && excluded) other.checked = false;
      }
      this.problem.hidden = true;
    }
    this.ask();
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
    if (!this.boxes.some((box) => box.checked)) {
      this.say("Choose at least one label before you submit.");
      return false;
    }
    const open = this.questions.find((question) => "required" in question.dataset && !question.matches(".off, :has(:checked)"));
    if (!open) return true;
    this.say(`Answer “${open.querySelector("legend").textContent.trim()}” before you submit.`);
    open.querySelector("input").focus();
    return false;
  }

  say(sentence) {
    this.problem.textContent = sentence;
    this.problem.hidden = false;
  }
}
