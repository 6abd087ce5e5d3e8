// How loud a clip plays: clips are brought to one loudness, no peak is louder than the cap, and sound fades in.

const MOST_GAIN_DB = 30; // a whisper recorded from afar would else become noise
let context = null;

export class Sound {
  constructor(audio, data) {
    this.audio = audio;
    this.fade = Number(data.fadeMs) / 1000;
    const cap = Number(data.capDb);
    const known = data.lufs !== "" && data.peakDbfs !== "";
    const gain = known ? Math.min(Number(data.targetLufs) - Number(data.lufs), cap - Number(data.peakDbfs), MOST_GAIN_DB) : cap;
    this.level = 10 ** (gain / 20);
    audio.volume = Math.min(1, this.level); // until, or instead of, the finer means below
  }

  // Call it before each start, in the reviewer's own act: browsers allow sound only then.
  begin() {
    try {
      context ??= new AudioContext();
      if (context.state === "suspended") context.resume();
      if (!this.gain) {
        this.gain = context.createGain();
        context.createMediaElementSource(this.audio).connect(this.gain).connect(context.destination);
        this.audio.volume = 1;
      }
      const now = context.currentTime;
      this.gain.gain.cancelScheduledValues(now);
      this.gain.gain.setValueAtTime(0, now);
      this.gain.gain.linearRampToValueAtTime(this.level, now + this.fade);
    } catch {
      // No Web Audio: the element's own volume limits the sound, without a fade.
    }
  }
}
