// Decoding and playing. All clips of a screen are channels of ONE buffer, played by one source: they cannot drift apart,
// and changing the clip only moves two gains. Gains are ramped linearly and add up to one, so equal clips stay equal.
const RAMP_S = 0.005;
const LOOKAHEAD_S = 0.02; // both ramps are queued before the audio thread reaches them
const NUM_BINS = 100;

function unmask(element) {
  const text = atob(element.textContent);
  const samples = new AudioBuffer({ length: text.length / 2, sampleRate: SET.rate_hz }).getChannelData(0);
  let counter = Number(element.dataset.nonce) >>> 0;
  for (let i = 0; i < samples.length; i++) {
    let word = counter;
    word ^= word >>> 16;
    word = Math.imul(word, 0x85ebca6b);
    word ^= word >>> 13;
    word = Math.imul(word, 0xc2b2ae35);
    const value = (text.charCodeAt(2 * i) | (text.charCodeAt(2 * i + 1) << 8)) ^ (word >>> 16);
    samples[i] = ((value << 16) >> 16) / 32768;
    counter = (counter + 0x9e3779b9) >>> 0;
  }
  return samples;
}

const clipCache = new Map();
function clipSamples(id) {
  if (!clipCache.has(id)) {
    if (clipCache.size > 40) clipCache.clear();
    clipCache.set(id, unmask(document.getElementById("clip-" + id)));
  }
  return clipCache.get(id);
}

function bufferOf(context, channels, rate) {
  const length = Math.max(...channels.map((samples) => samples.length));
  const buffer = context.createBuffer(channels.length, length, rate);
  channels.forEach((samples, i) => buffer.getChannelData(i).set(samples));
  return buffer;
}

// One source, one gain per channel. Ramps queue behind each other, so none is ever cut off half way.
class Graph {
  constructor(context, buffer, selected) {
    this.context = context;
    this.source = context.createBufferSource();
    this.source.buffer = buffer;
    this.selected = selected;
    this.freeAt = 0;
    const splitter = context.createChannelSplitter(buffer.numberOfChannels);
    this.source.connect(splitter);
    this.gains = [];
    for (let i = 0; i < buffer.numberOfChannels; i++) {
      const gain = context.createGain();
      gain.gain.setValueAtTime(i === selected ? 1 : 0, 0);
      splitter.connect(gain, i);
      gain.connect(context.destination);
      this.gains.push(gain.gain);
    }
  }

  select(index, when) {
    if (index === this.selected) return;
    const begin = Math.max(when, this.freeAt);
    const [out, into] = [this.gains[this.selected], this.gains[index]];
    out.setValueAtTime(1, begin);
    out.linearRampToValueAtTime(0, begin + RAMP_S);
    into.setValueAtTime(0, begin);
    into.linearRampToValueAtTime(1, begin + RAMP_S);
    this.freeAt = begin + RAMP_S;
    this.selected = index;
  }

  end() {
    this.source.onended = null;
    this.source.stop();
    this.source.disconnect();
    this.gains = [];
  }
}

class Player {
  constructor(rate, onChange) {
    this.rate = rate;
    this.onChange = onChange;
    this.context = null;
    this.channels = [];
    this.isLooping = false;
    this.load([]);
  }

  load(channels) {
    this.stop();
    this.channels = channels;
    this.duration = channels.length ? Math.max(...channels.map((c) => c.length)) / this.rate : 0;
    this.buffer = null;
    this.selected = 0;
    this.offset = 0;
    this.region = [0, this.duration];
    this.plays = 0;
    this.switches = 0;
    this.heard = channels.map(() => new Array(NUM_BINS).fill(0));
    this.marked = 0;
  }

  get isPlaying() { return this.graph != null; }

  position() {
    if (!this.graph) return this.offset;
    const run = this.offset + Math.max(0, this.context.currentTime - this.startedAt);
    if (!this.isLooping) return Math.min(run, this.duration);
    const [begin, end] = this.region;
    return run < end ? run : begin + ((run - begin) % (end - begin));
  }

  async play() {
    if (!this.context) this.context = new AudioContext({ sampleRate: this.rate });
    if (this.context.state !== "running") await this.context.resume();
    if (this.graph || !this.channels.length) return;
    const [begin, end] = this.isLooping ? this.region : [0, this.duration];
    if (this.offset < begin || this.offset >= end - 0.01) this.offset = begin;
    this.buffer = this.buffer || bufferOf(this.context, this.channels, this.rate);
    this.graph = new Graph(this.context, this.buffer, this.selected);
    this.graph.source.loop = this.isLooping;
    [this.graph.source.loopStart, this.graph.source.loopEnd] = this.region;
    this.graph.source.onended = () => this.ended();
    this.startedAt = this.context.currentTime + LOOKAHEAD_S;
    this.graph.source.start(this.startedAt, this.offset);
    this.marked = this.offset;
    this.plays += 1;
    this.timer = setInterval(() => { this.mark(); this.onChange(); }, 40);
    this.onChange();
  }

  pause() {
    if (!this.graph) return;
    this.mark();
    this.offset = this.position();
    this.stop();
    this.onChange();
  }

  stop() {
    clearInterval(this.timer);
    if (this.graph) this.graph.end();
    this.graph = null;
  }

  ended() {
    this.markUpTo(this.duration);
    this.stop();
    this.offset = this.isLooping ? this.region[0] : 0;
    this.onChange();
  }

  async select(index) {
    this.mark();
    if (this.graph && index !== this.selected) {
      this.switches += 1;
      this.graph.select(index, this.context.currentTime + LOOKAHEAD_S);
    }
    this.selected = index;
    if (!this.graph) await this.play();
    this.onChange();
  }

  // A jump restarts all clips together, at the same sample
  async restart(change) {
    const wasPlaying = this.isPlaying;
    this.pause();
    change();
    if (wasPlaying) await this.play();
    this.onChange();
  }

  seek(seconds) {
    return this.restart(() => { this.offset = Math.min(Math.max(0, seconds), Math.max(0, this.duration - 0.01)); });
  }

  setLoop(isLooping, region) {
    return this.restart(() => {
      this.isLooping = isLooping;
      this.region = region || [0, this.duration];
      if (isLooping && (this.offset < this.region[0] || this.offset >= this.region[1])) this.offset = this.region[0];
    });
  }

  mark() {
    if (!this.graph) return;
    const now = this.position();
    if (now >= this.marked) this.markUpTo(now);
    else { // the loop went round since the last look
      this.markUpTo(this.region[1]);
      this.marked = this.region[0];
      this.markUpTo(now);
    }
  }

  markUpTo(end) {
    const bins = this.heard[this.selected];
    const [first, last] = [this.marked, end].map((t) => Math.floor((t / this.duration) * NUM_BINS));
    for (let i = first; i <= Math.min(last, NUM_BINS - 1); i++) bins[i] = 1;
    this.marked = end;
  }

  heardFrac(index) {
    return this.heard[index].reduce((sum, bin) => sum + bin, 0) / NUM_BINS;
  }
}

// For tests: what the same graph gives for switches at [seconds, index], sample by sample.
async function renderSwitches(channels, rate, switches) {
  const length = Math.max(...channels.map((samples) => samples.length));
  const context = new OfflineAudioContext(1, length, rate);
  const graph = new Graph(context, bufferOf(context, channels, rate), 0);
  for (const [when, index] of switches) graph.select(index, when);
  graph.source.start(0);
  return (await context.startRendering()).getChannelData(0);
}
