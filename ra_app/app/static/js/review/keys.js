// Single keys. They do not act in a text field or together with Ctrl, Alt or Meta. A focused control keeps the keys that it
// uses itself.

// The keys that a focused control uses.
const OWN_KEYS = {
  Enter: "a, button, summary",
  " ": "a, button:not(.segment), summary, input",
  ArrowLeft: "input[type=radio], [role=slider]",
  ArrowRight: "input[type=radio], [role=slider]",
  ArrowUp: "input[type=radio]",
  ArrowDown: "input[type=radio]",
};

// `act(key)` does what the key means and returns whether it means anything.
export function listen(act, { isOn, submit }) {
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (target.matches("textarea")) {
      if (event.key === "Escape") target.blur();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit();
      return;
    }
    if (!isOn() || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || target.matches(OWN_KEYS[event.key] ?? ":not(*)")) return;
    if (event.repeat && !event.key.startsWith("Arrow")) {
      event.preventDefault();
      return;
    }
    if (act(event.key.length === 1 ? event.key.toLowerCase() : event.key)) event.preventDefault();
  });
}
