// What the screen says above the clip. All its sentences stand here.

import { Bar } from "./bar.js";

export class Notices {
  constructor() {
    this.bar = new Bar();
  }

  clear(...kinds) {
    for (const kind of kinds) this.bar.clear(kind);
  }

  // `count` labels have no answer yet.
  waiting(count, hurry) {
    if (!count) return this.bar.clear("network");
    const labels = count === 1 ? "One label is" : `${count} labels are`;
    this.bar.say("network", `${labels} not stored yet: the server does not answer. Go on; they are kept here and sent again.`, [
      ["Try now", hurry],
    ]);
  }

  signedOut(address) {
    this.bar.say("session", "Your session has ended. What you chose and wrote is kept in this browser.", [["Log in again", address]]);
  }

  // A label was not stored. `data` is the server's answer.
  refused({ clip, fields }, data, status, { compare, open }) {
    const once = (does) => () => { this.bar.clear("refused"); does(); };
    if (data.state === "stale" && data.item) {
      const sentence = `Clip ${clip}: another label was stored meanwhile. Nothing is overwritten.`;
      this.bar.say("refused", sentence, [["Compare", once(() => compare(data.item))]]);
    } else if (data.state === "lost") {
      this.bar.say("refused", `Somebody else has clip ${clip} by now. What you chose and wrote is kept as a draft.`);
    } else {
      const wrote = fields.find(([name]) => name === "note")?.[1];
      const note = status === 422 || !wrote ? "" : ` You wrote: “${wrote}”.`; // 422: the server has it as a draft
      const why = data.problem || `the server answered ${status}.`;
      this.bar.say("refused", `Clip ${clip} was not stored: ${why}${note}`, [["Open it", once(() => open(clip))]]);
    }
  }

  // The clip is held for so many seconds; null: for long enough.
  lease(clip, seconds, keep) {
    if (seconds === null) return this.bar.clear("lease");
    const sentence = seconds
      ? `Clip ${clip} is held for you for less than ${Math.ceil(seconds / 30) * 30} s more.`
      : `Clip ${clip} may go to somebody else now. What you chose and wrote is kept.`;
    this.bar.say("lease", sentence, [["Keep it", keep]]);
  }

  lost() {
    this.bar.say("lost", "Somebody else has this clip by now. What you chose and wrote is kept as a draft.");
  }

  stillOnItsWay(clip) {
    this.bar.say("undo", `Clip ${clip} is still on its way to the server. Try again when the network is back.`);
  }

  notOpened(clip, lost) {
    this.bar.say("undo", lost ? `Somebody else has clip ${clip} by now.` : `Clip ${clip} could not be opened. Try again.`);
  }

  notRevealed() {
    this.bar.say("undo", "What the model said could not be fetched. Try again.");
  }

  manyMinutes() {
    this.bar.say("budget", "You have heard many minutes today. It is a good time to stop soon.");
  }

  breakDue({ take, dismiss }) {
    const once = (does) => () => { this.bar.clear("break"); does(); };
    this.bar.say("break", "You have worked for a while without a break.", [["Take a break", once(take)], ["Not now", once(dismiss)]]);
  }

  unsentAtLogOut(count) {
    const labels = count === 1 ? "One of your labels is" : `${count} of your labels are`;
    this.bar.say("logout", `${labels} not stored yet, and would be lost. Wait a moment, or log out again to do so all the same.`);
  }
}
