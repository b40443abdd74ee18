// One picture for all clips of a screen (their mean level over time), so that nothing can be told apart by eye.
const BAR_PX = 4;

class Wave {
  constructor(player, onSeek) {
    this.player = player;
    this.box = element("div", {
      class: "wave", role: "slider", tabindex: "0", "aria-label": "Position in the clip", "aria-valuemin": "0",
    });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.box.append(this.canvas);
    this.onSeek = onSeek;
    this.box.addEventListener("pointerdown", (event) => this.press(event));
    this.box.addEventListener("pointermove", (event) => this.drag(event));
    this.box.addEventListener("pointerup", (event) => this.release(event));
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  secondsAt(event) {
    const frame = this.box.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width)) * this.player.duration;
  }

  press(event) {
    this.from = this.secondsAt(event);
    this.to = this.from;
    this.box.setPointerCapture(event.pointerId);
  }

  drag(event) {
    if (this.from == null) return;
    this.to = this.secondsAt(event);
    this.draw();
  }

  // A drag marks what is looped; a tap goes there
  release(event) {
    if (this.from == null) return;
    const [begin, end] = [Math.min(this.from, this.to), Math.max(this.from, this.to)];
    this.from = null;
    if (end - begin > Math.max(0.1, this.player.duration / 50)) this.player.setLoop(true, [begin, end]);
    else this.player.seek(this.secondsAt(event));
    this.onSeek();
  }

  key(event) {
    const steps = { ArrowRight: 0.25, ArrowLeft: -0.25, ArrowUp: 0.25, ArrowDown: -0.25, PageUp: 1, PageDown: -1 };
    let target = null;
    if (event.key in steps) target = this.player.position() + steps[event.key];
    if (event.key === "Home") target = 0;
    if (event.key === "End") target = this.player.duration;
    if (target == null) return;
    event.preventDefault();
    event.stopPropagation();
    this.player.seek(target);
    this.onSeek();
  }

  draw() {
    const { player, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.box.clientWidth, this.box.clientHeight];
    if (!width || !player.duration) return;
    const numBars = Math.floor(width / BAR_PX);
    if (canvas.width !== Math.round(width * ratio) || this.drawn !== player.channels) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      this.levels = envelope(player.channels, numBars);
      this.drawn = player.channels;
    }
    const style = getComputedStyle(document.documentElement);
    const paint = canvas.getContext("2d");
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, width, height);
    const x = (seconds) => (seconds / player.duration) * width;
    const region = this.from != null ? [Math.min(this.from, this.to), Math.max(this.from, this.to)] : player.region;
    if (player.isLooping || this.from != null) {
      paint.fillStyle = style.getPropertyValue("--tint");
      paint.fillRect(x(region[0]), 0, x(region[1]) - x(region[0]), height);
    }
    const now = player.position();
    const [ahead, done] = [style.getPropertyValue("--wave"), style.getPropertyValue("--wave-done")];
    this.levels.forEach((level, i) => {
      const size = Math.max(2, level * (height - 12));
      paint.fillStyle = i * BAR_PX <= x(now) ? done : ahead;
      paint.fillRect(i * BAR_PX, (height - size) / 2, BAR_PX - 1.5, size);
    });
    paint.fillStyle = style.getPropertyValue("--ink");
    paint.fillRect(Math.min(width - 2, x(now)), 0, 2, height);
    this.box.setAttribute("aria-valuemax", player.duration.toFixed(2));
    this.box.setAttribute("aria-valuenow", now.toFixed(2));
    this.box.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${player.duration.toFixed(1)} seconds`);
  }
}

function envelope(channels, numBars) {
  const levels = new Array(numBars).fill(0);
  for (const samples of channels) {
    for (let bar = 0; bar < numBars; bar++) {
      const [begin, end] = [bar, bar + 1].map((b) => Math.floor((b * samples.length) / numBars));
      let sum = 0;
      for (let i = begin; i < end; i++) sum += samples[i] * samples[i];
      levels[bar] += Math.sqrt(sum / Math.max(1, end - begin));
    }
  }
  const top = Math.max(...levels, 1e-9);
  return levels.map((level) => level / top);
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}
