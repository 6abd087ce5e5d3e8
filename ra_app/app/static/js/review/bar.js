// The line above the clip that says what the reviewer should know now. Each kind of message has one place in it.

export class Bar {
  constructor() {
    this.box = document.getElementById("bar");
    this.lines = new Map();
  }

  // Shows a message; `doings` are buttons or links: [text, function or address].
  say(kind, sentence, doings = []) {
    const before = this.lines.get(kind);
    if (before?.sentence === sentence) return;
    const line = document.createElement("div");
    line.className = "notice";
    line.append(sentence);
    for (const [text, does] of doings) line.append(" ", made(text, does));
    if (before) before.line.replaceWith(line);
    else this.box.append(line);
    this.lines.set(kind, { sentence, line });
  }

  clear(kind) {
    this.lines.get(kind)?.line.remove();
    this.lines.delete(kind);
  }
}

function made(text, does) {
  if (typeof does === "string") return Object.assign(document.createElement("a"), { href: does, textContent: text });
  const button = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: text });
  button.addEventListener("click", does);
  return button;
}
