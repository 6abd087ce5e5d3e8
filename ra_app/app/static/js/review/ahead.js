// The clips that come next. Each is parsed, and its audio fetched and opened, before it is needed.

const LONGEST_S = 1200; // a longer clip is not fetched as a whole; the player asks for parts of it
const OPENING_MS = 5000; // with the audio of the clip that is opened first

export class Ahead {
  // The audio of clips that come next waits for `first`, a promise: the clip that is opened first needs the network more.
  constructor() {
    this.items = [];
    this.first = null;
  }

  get clips() {
    return this.items.map((item) => item.clip);
  }

  add(items) {
    for (const item of items) {
      if (!this.clips.includes(item.clip)) this.items.push(prepared(item, this.first));
    }
  }

  take() {
    return this.items.shift();
  }

  // Puts a clip that was being looked at before the others.
  putBack(item) {
    if (item && !this.clips.includes(item.clip)) this.items.unshift(item);
  }
}

export function parsed(item) {
  const template = document.createElement("template"); // what stands in it loads nothing yet
  template.innerHTML = item.html; // the server's own HTML, in which all text is escaped
  item.root = template.content.querySelector("#desk");
  return item;
}

// The audio is fetched after `first`, a promise.
export function prepared(item, first) {
  const sound = parsed(item).root.querySelector("#sound");
  if (Number(sound.dataset.seconds) <= LONGEST_S) fetchAudio(item, first);
  return item;
}

// Resolves when the player can play or cannot go on; at the latest after some seconds.
export function playable(audio) {
  if (audio.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) return Promise.resolve();
  return new Promise((done) => {
    for (const name of ["canplay", "error"]) audio.addEventListener(name, done, { once: true });
    setTimeout(done, OPENING_MS);
  });
}

async function fetchAudio(item, first) {
  try {
    await first;
    if (item.shown) return;
    const answer = await fetch(item.audio);
    if (!answer.ok) return; // the player will ask again and say what is wrong
    const blob = await answer.blob();
    if (item.shown) return;
    const audio = item.root.querySelector("#player").cloneNode();
    item.source = URL.createObjectURL(blob);
    audio.src = item.source;
    const ready = document.importNode(audio, true);
    ready.load();
    item.ready = ready;
  } catch {
    // The network is away: the player asks when the clip is shown.
  }
}
