// Single-key shortcuts. They do not act in a text field or together with Ctrl, Alt or Meta. A focused control keeps the keys
// that it uses itself. The reviewer can switch the shortcuts off in the help dialog (WCAG 2.1.4).

const STORE = "shortcuts";

export function shortcutsOn() {
  try {
    return localStorage.getItem(STORE) !== "off";
  } catch {
    return true; // the browser forbids storage: use the default
  }
}

export function setShortcuts(on) {
  try {
    localStorage.setItem(STORE, on ? "on" : "off");
  } catch {
    // The browser forbids storage: the choice applies to this page only.
  }
}

// The keys that a focused control uses itself.
const owns = {
  Enter: "a, button, summary, audio",
  " ": "a, button:not(.segment), summary, audio, input",
  ArrowLeft: "input[type=radio]",
  ArrowRight: "input[type=radio]",
};

export function listen(actions, { isOn, submit }) {
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (target.matches("textarea")) {
      if (event.key === "Escape") target.blur();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
      return;
    }
    if (!isOn() || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || target.matches(owns[event.key] ?? ":not(*)")) return;
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = actions(letter);
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || letter.startsWith("Arrow")) action();
  });
}
