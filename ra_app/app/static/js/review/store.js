// What is kept in this browser until the server has it: drafts and unsent labels. It is the reviewer's own, outlives the tab,
// and goes at the log-out. If the browser forbids storage, it lasts as long as the page.

import { dropFromDisk, entriesOnDisk, putOnDisk } from "./disk.js";

const WORK = /^(draft|unsent):/; // the rest is a matter of convenience
const memory = new Map();

// Brings back what localStorage has lost. Call it before anything is read.
export async function recover() {
  for (const [name, value] of await entriesOnDisk()) {
    if (!(kept(name)?.at >= value.at)) keep(name, value);
  }
}

export function keep(name, value) {
  memory.set(name, value);
  if (WORK.test(name)) putOnDisk(name, value);
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // The browser forbids storage, or it is full.
  }
}

export function kept(name) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

export function drop(name) {
  memory.delete(name);
  if (WORK.test(name)) dropFromDisk(name);
  try {
    localStorage.removeItem(name);
  } catch {
    // The browser forbids storage.
  }
}

export function names(prefix) {
  let stored = [];
  try {
    stored = Object.keys(localStorage);
  } catch {
    // The browser forbids storage.
  }
  return [...new Set([...stored, ...memory.keys()])].filter((name) => name.startsWith(prefix));
}
