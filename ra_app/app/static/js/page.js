// On every page, before it is painted: the theme that was chosen in this browser. At the log-out, drafts go from this browser.

const THEMES = ["", "light", "dark"];

function theme(next) {
  try {
    if (next !== undefined) localStorage.setItem("theme", next);
    return localStorage.getItem("theme") ?? "";
  } catch {
    return next ?? document.documentElement.dataset.theme ?? "";
  }
}

function wear() {
  const worn = THEMES.includes(theme()) ? theme() : "";
  document.documentElement.dataset.theme = worn;
  const button = document.getElementById("theme");
  if (!button) return;
  button.hidden = false;
  button.textContent = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" }[worn];
}

wear();
addEventListener("DOMContentLoaded", () => {
  wear();
  document.getElementById("theme")?.addEventListener("click", () => {
    theme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    wear();
    dispatchEvent(new Event("theme"));
  });
  if (document.getElementById("review")) return; // that page looks after unsent labels as well
  document.querySelector("form[data-logout]")?.addEventListener("submit", (event) => {
    event.preventDefault();
    try {
      for (const name of Object.keys(localStorage)) if (name.startsWith("draft:")) localStorage.removeItem(name);
    } catch {
      // The browser forbids storage: nothing is kept.
    }
    forgetDisk(() => event.target.submit());
  });
});

// Deletes the drafts in IndexedDB (review/disk.js), then goes on, at the latest after a second.
function forgetDisk(next) {
  const late = setTimeout(next, 1000);
  const goOn = () => {
    clearTimeout(late);
    next();
  };
  try {
    const asked = indexedDB.open("work", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("kept");
    asked.onerror = goOn;
    asked.onsuccess = () => {
      const transaction = asked.result.transaction("kept", "readwrite");
      transaction.objectStore("kept").delete(IDBKeyRange.bound("draft:", "draft;"));
      transaction.oncomplete = transaction.onabort = goOn;
    };
  } catch {
    goOn();
  }
}
