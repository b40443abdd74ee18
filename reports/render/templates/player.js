// Two variants of one sentence, started together; which of them is heard is a matter of their volumes, so that
// switching leaves no gap. Sound is in the page as base64 Opus and decoded when a sentence is first asked for.
const sentences = JSON.parse(document.getElementById("sounds").textContent);
const FADE_S = 0.004;

class Player {
  constructor(root) {
    const at = (name) => root.querySelector(`#player-${name}`);
    Object.assign(this, { root, sentenceBox: at("sentence"), says: at("says"), button: at("play"), slider: at("position"),
      clock: at("clock"), repeat: at("repeat"), status: at("status"), boxes: [at("a"), at("b")],
      radios: [at("hear-a"), at("hear-b")], against: [at("against-a"), at("against-b")] });
    this.decoded = new Map();
    this.sources = [];
    this.offset = 0;
    this.isPlaying = false;
    this.turn = 0; // what was asked for last wins over what takes longer to decode
    sentences.forEach((sentence, index) => this.sentenceBox.add(new Option(`${sentence.id}: ${sentence.text}`, index)));
    this.sentenceBox.addEventListener("change", () => this.choose());
    this.boxes.forEach((box) => box.addEventListener("change", () => this.changeClip()));
    this.radios.forEach((radio) => radio.addEventListener("change", () => this.hear()));
    this.button.addEventListener("click", () => (this.isPlaying ? this.pause() : this.play()));
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.choose();
    root.hidden = false;
  }

  get sentence() { return sentences[Number(this.sentenceBox.value)]; }
  get clips() { return this.boxes.map((box) => this.sentence.clips[Number(box.value)]); }
  get side() { return this.radios[1].checked ? 1 : 0; }
  get duration() { return Math.max(...this.clips.map((clip) => clip.seconds)); }
  get time() { return this.isPlaying ? Math.min(this.duration, this.offset + this.context.currentTime - this.startedAt) : this.offset; }

  // Another sentence: the variants that were chosen stay chosen where they spoke it
  choose() {
    this.pause();
    this.offset = 0;
    const wanted = this.boxes.map((box) => box.selectedOptions[0]?.text);
    this.boxes.forEach((box, side) => {
      box.replaceChildren(...this.sentence.clips.map((clip, index) => new Option(clip.label, index)));
      const kept = this.sentence.clips.findIndex((clip) => clip.label === wanted[side]);
      const first = side === 0 ? 0 : preferred(this.sentence);
      box.value = String(kept >= 0 ? kept : first);
    });
    this.says.textContent = this.sentence.text;
    this.show();
  }

  changeClip() {
    const wasPlaying = this.isPlaying;
    this.offset = Math.min(this.time, this.duration);
    this.pause();
    this.show();
    if (wasPlaying) this.play();
  }

  async play() {
    const turn = ++this.turn;
    this.status.textContent = "";
    this.context ??= new AudioContext();
    try {
      await this.context.resume();
      this.buffers = await Promise.all(this.clips.map((clip) => this.decode(clip)));
    } catch (error) {
      this.status.textContent = `This browser cannot play it (${error.name}): Opus in Ogg needs Chrome, Firefox, Edge, or Safari 18.4.`;
      return;
    }
    if (turn !== this.turn) return;
    if (this.offset >= this.duration) this.offset = 0;
    this.startedAt = this.context.currentTime;
    this.gains = this.buffers.map(() => this.context.createGain());
    this.gains.forEach((gain, side) => { gain.gain.value = side === this.side ? 1 : 0; gain.connect(this.context.destination); });
    this.sources = this.buffers.map((buffer, side) => {
      const source = new AudioBufferSourceNode(this.context, { buffer });
      source.connect(this.gains[side]);
      source.start(this.startedAt, this.offset);
      return source;
    });
    this.isPlaying = true;
    this.show();
    this.follow();
  }

  pause() {
    this.turn += 1;
    if (this.isPlaying) this.offset = this.time;
    this.isPlaying = false;
    this.sources.forEach((source) => source.stop());
    this.gains?.forEach((gain) => gain.disconnect());
    this.sources = [];
    this.show();
  }

  seek(seconds) {
    const wasPlaying = this.isPlaying;
    this.pause();
    this.offset = seconds;
    this.show();
    if (wasPlaying) this.play();
  }

  // The other variant at the same moment
  hear() {
    if (this.isPlaying) {
      this.gains.forEach((gain, side) => gain.gain.setTargetAtTime(side === this.side ? 1 : 0, this.context.currentTime, FADE_S));
    }
    this.show();
  }

  follow() {
    if (!this.isPlaying) return;
    if (this.time < this.duration) {
      this.show();
      requestAnimationFrame(() => this.follow());
      return;
    }
    this.pause();
    this.offset = 0;
    if (this.repeat.checked) this.play();
    else this.show();
  }

  async decode(clip) {
    if (!this.decoded.has(clip)) {
      const bytes = Uint8Array.from(atob(clip.data), (letter) => letter.charCodeAt(0));
      this.decoded.set(clip, await this.context.decodeAudioData(bytes.buffer));
    }
    return this.decoded.get(clip);
  }

  show() {
    const own = this.clips[this.side];
    this.button.textContent = this.isPlaying ? "Pause" : "Play";
    this.slider.max = String(this.duration);
    this.slider.value = String(this.time);
    this.slider.setAttribute("aria-valuetext", `${this.time.toFixed(1)} of ${own.seconds.toFixed(1)} seconds`);
    this.clock.textContent = `${this.time.toFixed(1)} of ${own.seconds.toFixed(2)} s`;
    this.against.forEach((text, side) => { text.textContent = this.clips[side].scores; });
  }
}

// The variant that the verdict names, where it spoke the sentence
function preferred(sentence) {
  const named = sentence.clips.findIndex((clip) => clip.label === document.getElementById("sounds").dataset.named);
  return named > 0 ? named : Math.min(1, sentence.clips.length - 1);
}

const player = new Player(document.getElementById("player"));
