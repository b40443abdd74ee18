// One trial after the other.
const BREAK_AFTER = 20;
const NOT_KEPT = "This browser keeps nothing: finish without reloading the page, and download the results at the end.";
const player = new Player(SET.rate_hz, () => trialScreen && trialScreen.refresh());
let trialScreen = null;
let session = null;

const spoken = (name) => (name.length > 1 ? "the " + name.toLowerCase() : name);

class TrialScreen {
  constructor(session) {
    this.session = session;
    this.answer = session.answer;
    this.names = METHOD.names(this.answer);
    player.load(METHOD.channels(this.answer).map(clipSamples));
    this.channelsHeard = this.answer.channels_heard || player.channels.map(() => 0);
    this.since = performance.now();
    this.before = { time_s: this.answer.time_s, plays: this.answer.plays, switches: this.answer.switches };
    this.wave = new Wave(player, () => this.refresh());
    this.build();
    this.refresh();
    const next = session.turns[session.state.position + 1];
    if (next) setTimeout(() => next.shown.forEach(clipSamples), 300);
  }

  get isPractice() { return this.session.state.position < 1; }

  stimulus(index) {
    const name = this.names[index];
    const button = element("button", { type: "button", class: "stimulus", "aria-pressed": "false", onclick: () => player.select(index) },
      element("span", { class: "name" }, name), element("kbd", { "aria-hidden": "true" }, name[0]), element("span", { class: "state" }));
    this.buttons[index] = button;
    return button;
  }

  build() {
    const { position } = this.session.state;
    this.buttons = [];
    this.play = element("button", { type: "button", onclick: () => this.toggle() }, "Play");
    this.loop = element("button", { type: "button", "aria-pressed": "false", onclick: () => player.setLoop(!player.isLooping) }, "Repeat");
    this.time = element("span", { class: "time" });
    const isMushra = SET.method === "mushra";
    const stimuli = element("div", { class: "stimuli", role: "group", "aria-label": "Clips" },
      ...this.names.map((_, i) => (isMushra && i > 0 ? null : this.stimulus(i))).filter(Boolean));
    this.form = element("form", { onsubmit: (event) => event.preventDefault() },
      ...METHOD.form(this.answer, (change) => this.take(change), (i) => this.stimulus(i)));
    const what = this.isPractice ? "Practice, does not count. " : "";
    show(element("section", { class: "card" },
      element("h1", {}, METHOD.question), element("p", { class: "soft" }, `${what}Screen ${position + 1} of ${this.session.numTurns}`),
      isKept ? null : element("p", { class: "note" }, NOT_KEPT),
      this.session.turn.trial.text ? element("p", { class: "text" }, this.session.turn.trial.text) : null,
      stimuli, this.wave.box,
      element("div", { class: "transport" }, this.play,
        element("button", { type: "button", onclick: () => player.seek(0) }, "From the start"), this.loop, this.time),
      this.form));
    this.hint = element("p", { class: "hint", id: "hint" });
    this.next = element("button", { type: "button", class: "primary", "aria-describedby": "hint", onclick: () => this.goOn() },
      position + 1 === this.session.numTurns ? "Finish" : "Next");
    const back = position > 0 ? element("button", { type: "button", onclick: () => this.goTo(position - 1) }, "Back") : null;
    document.getElementById("page").append(element("div", { class: "bar" }, element("div", { class: "inner" }, ...[back, this.hint, this.next].filter(Boolean))));
    showProgress(this.session);
  }

  toggle() { return player.isPlaying ? player.pause() : player.play(); }

  take(change) {
    Object.assign(this.answer.response, change);
    this.keep();
    this.refresh();
  }

  // The last change of mind counts; times add up over visits
  keep() {
    const { answer, before } = this;
    this.channelsHeard = this.channelsHeard.map((share, i) => Math.max(share, player.heardFrac(i)));
    answer.channels_heard = this.channelsHeard;
    answer.heard_frac = answer.shown.map((_, i) => this.channelsHeard[i]);
    answer.time_s = Math.round((before.time_s + (performance.now() - this.since) / 1000) * 100) / 100;
    answer.plays = before.plays + player.plays;
    answer.switches = before.switches + player.switches;
    this.session.keep();
  }

  missing() {
    const unheard = this.channelsHeard.findIndex((share) => share < SET.min_heard_frac);
    if (unheard >= 0) return `Listen to ${spoken(this.names[unheard])} to its end`;
    return METHOD.missing(this.answer);
  }

  refresh() {
    this.channelsHeard = this.channelsHeard.map((share, i) => Math.max(share, player.heardFrac(i)));
    this.buttons.forEach((button, i) => {
      const isHeard = this.channelsHeard[i] >= SET.min_heard_frac;
      const isOn = player.selected === i;
      button.setAttribute("aria-pressed", String(isOn));
      const state = button.querySelector(".state");
      state.textContent = isOn && player.isPlaying ? "playing" : isHeard ? "heard" : this.channelsHeard[i] > 0 ? "in part" : "not yet";
      state.classList.toggle("done", isHeard);
    });
    this.play.textContent = player.isPlaying ? "Pause" : "Play";
    this.loop.setAttribute("aria-pressed", String(player.isLooping));
    this.time.textContent = `${player.position().toFixed(1)} / ${player.duration.toFixed(1)} s`;
    refreshForm(this.form, this.answer);
    this.wave.draw();
    const missing = this.missing();
    this.next.setAttribute("aria-disabled", String(missing != null));
    if (!this.isFailed && this.hint.textContent !== (missing || "")) this.hint.textContent = missing || "";
  }

  async goOn() {
    if (this.isSending) return;
    this.keep();
    const missing = this.missing();
    if (missing) return say(missing);
    const { answer, session } = this;
    const given = { ...answer, is_given: true, given: new Date().toISOString() };
    this.isSending = true;
    try {
      await session.send("answer", { answer: given });
    } catch (error) {
      this.isFailed = true;
      this.hint.classList.add("error");
      this.hint.textContent = `Not saved (${error.message}). Press Next to try again.`;
      return;
    } finally { this.isSending = false; }
    Object.assign(answer, given);
    const { state } = session;
    const unanswered = session.turns.findIndex((_, i) => !(state.answers[i] && state.answers[i].is_given));
    if (unanswered < 0) return this.end();
    this.goTo(state.position + 1 < session.numTurns ? state.position + 1 : unanswered);
  }

  async end() {
    player.stop();
    this.session.state.finished = this.session.state.finished || new Date().toISOString();
    this.session.keep();
    trialScreen = null;
    try { await this.session.send("session", {}); } catch { /* every answer is there already */ }
    showProgress(this.session);
    finish(this.session, () => openTrial(this.session));
  }

  goTo(position) {
    this.keep();
    player.stop();
    const { state } = this.session;
    const isBreak = position > state.position && position % BREAK_AFTER === 0 && position < this.session.numTurns - 3;
    state.position = position;
    this.session.keep();
    trialScreen = null;
    if (isBreak) { showProgress(this.session); pause(this.session, () => openTrial(this.session)); } else openTrial(this.session);
  }
}

function openTrial(session) {
  trialScreen = new TrialScreen(session);
}

async function begin(opened) {
  player.stop();
  session = opened;
  session.keep();
  try { await session.send("session", {}); } catch { /* the first answer will say so */ }
  const isDone = session.state.finished && session.turns.every((_, i) => (session.state.answers[i] || {}).is_given);
  if (isDone) { showProgress(session); finish(session, () => openTrial(session)); } else openTrial(session);
}

document.addEventListener("keydown", (event) => {
  if (!trialScreen || !areKeysOn() || event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  const isText = target.matches('input[type="text"], textarea, select');
  const isRange = target.matches('input[type="range"]');
  const isButton = target.matches("button, summary, a");
  const isRadio = target.matches('input[type="radio"]');
  if (isText) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((key === " " && (isButton || isRadio)) || (key === "Enter" && isButton)) return;
  if (key.startsWith("Arrow") && (isRadio || isRange)) return;
  if (["Home", "End", "PageUp", "PageDown"].includes(key) && isRange) return;
  const index = trialScreen.names.findIndex((name) => name[0].toLowerCase() === key);
  const change = METHOD.keys(key, trialScreen.answer, player.selected);
  const actions = {
    " ": () => trialScreen.toggle(), Enter: () => trialScreen.goOn(), ArrowRight: () => trialScreen.goOn(),
    ArrowLeft: () => trialScreen.session.state.position > 0 && trialScreen.goTo(trialScreen.session.state.position - 1),
    Home: () => player.seek(0), o: () => player.setLoop(!player.isLooping),
    "[": () => player.setLoop(true, [player.position(), Math.max(player.region[1], player.position() + 0.1)]),
    "]": () => player.setLoop(true, [Math.min(player.region[0], player.position() - 0.1), player.position()]),
  };
  const act = index >= 0 ? () => player.select(index) : change ? () => trialScreen.take(change) : actions[key];
  if (!act) return;
  event.preventDefault();
  act();
  if (change) say("answered");
});

window.addEventListener("beforeunload", (event) => {
  if (!session) return;
  if (trialScreen) trialScreen.keep();
  const { state } = session;
  const isSafe = COLLECTOR || (state.finished ? state.downloaded : isKept);
  if (!isSafe && state.answers.some((answer) => answer && answer.is_given)) event.preventDefault();
});
window.addEventListener("resize", () => trialScreen && trialScreen.wave.draw());
document.addEventListener("visibilitychange", () => { if (document.hidden && trialScreen) trialScreen.keep(); });

window.listening = { renderSwitches, clipSamples, SET, player };
welcome(player, begin);
