// A second place in this browser, IndexedDB, which is on the disk at once. Chromium writes localStorage to the disk only now and
// then, up to a minute later; a browser that is killed would lose what came last.

const TABLE = "kept";
const PATIENCE_MS = 1000;
let opened = Promise.resolve(null);

// Opens it, and returns what it holds: [name, value] of each entry. Empty if the browser has none or does not answer.
export async function entriesOnDisk() {
  opened = new Promise((done) => {
    try {
      const asked = indexedDB.open("work", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore(TABLE);
      asked.onsuccess = () => done(asked.result);
      asked.onerror = () => done(null);
    } catch {
      done(null);
    }
  });
  let names, values;
  const read = transact("readonly", (table) => { names = table.getAllKeys(); values = table.getAll(); });
  return (await soon(read)) ? names.result.map((name, n) => [name, values.result[n]]) : [];
}

export const putOnDisk = (name, value) => transact("readwrite", (table) => table.put(value, name));
export const dropFromDisk = (name) => transact("readwrite", (table) => table.delete(name));
// Waits until what was written and dropped before is on the disk.
export const writtenToDisk = () => soon(transact("readwrite", (table) => table.count()));

// Returns whether it is done.
async function transact(mode, does) {
  try {
    const database = await opened;
    if (!database) return false;
    const transaction = database.transaction(TABLE, mode);
    does(transaction.objectStore(TABLE));
    return await new Promise((done) => {
      transaction.oncomplete = () => done(true);
      transaction.onabort = () => done(false);
    });
  } catch {
    return false;
  }
}

function soon(promise) {
  return Promise.race([promise, new Promise((wake) => setTimeout(wake, PATIENCE_MS, false))]);
}
