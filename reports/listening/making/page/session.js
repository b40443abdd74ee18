// Who listens, what was answered, and where it is kept: in this browser after every change, and on the lab's machine
// where the page came from one.
const SET = JSON.parse(document.getElementById("set").textContent);
const COLLECTOR = document.querySelector('meta[name="collect"]');
const STORE = "listening:" + SET.set_sha256.slice(0, 16) + ":";

let memory = {}; // where the browser keeps nothing
let isKept = true;

function readStore(name) {
  try { return localStorage.getItem(STORE + name); } catch { return memory[name] || null; }
}

function writeStore(name, text) {
  memory[name] = text;
  try {
    localStorage.setItem(STORE + name, text);
    isKept = localStorage.getItem(STORE + name) === text;
  } catch { isKept = false; }
}

function knownListeners() {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(STORE + "by:")).map((key) => key.slice((STORE + "by:").length));
  } catch { return Object.keys(memory).filter((key) => key.startsWith("by:")).map((key) => key.slice(3)); }
}

// An id that ends in a number takes the orders in turn, so that a lab that numbers its listeners is exactly balanced
function scheduleOf(listener) {
  const number = /(\d{1,9})$/.exec(listener);
  if (number) return Number(number[1]) % SET.schedules.length;
  let hash = 2166136261;
  for (const letter of listener) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619) >>> 0;
  return hash % SET.schedules.length;
}

// A name is no identity: two people may choose the same one. Random, and the same in every file of this session
function newResultId() {
  return Array.from(crypto.getRandomValues(new BigUint64Array(2)), (half) => half.toString(16).padStart(16, "0")).join("");
}

class Session {
  static open(listener) {
    const kept = readStore("by:" + listener);
    return new Session(kept ? JSON.parse(kept) : {
      listener, result_id: newResultId(), schedule: scheduleOf(listener), device: "", hearing: "", comment: "",
      started: new Date().toISOString(), finished: null, position: 0, answers: [],
    });
  }

  constructor(state) {
    this.state = state;
    this.turns = SET.schedules[state.schedule].map(([trial, order, x]) => ({
      trial: SET.trials[trial], x, shown: order.map((place) => SET.trials[trial].clips[place]),
    }));
  }

  get numTurns() { return this.turns.length; }
  get turn() { return this.turns[this.state.position]; }

  keep() {
    writeStore("by:" + this.state.listener, JSON.stringify(this.state));
    writeStore("last", this.state.listener);
  }

  // The answer on the screen, begun or given; it survives a reload either way
  get answer() {
    const { position, answers } = this.state;
    if (!answers[position]) {
      const { trial, shown, x } = this.turn;
      answers[position] = {
        trial: trial.id, position, shown, x, response: {}, time_s: 0, plays: 0, switches: 0,
        heard_frac: shown.map(() => 0), is_given: false, given: null,
      };
    }
    return answers[position];
  }

  result() {
    const { answers, position, ...rest } = this.state;
    return {
      schema_version: SET.schema_version, kind: "listening-result", method: SET.method, set_sha256: SET.set_sha256,
      key_sha256: SET.key_sha256, num_turns: this.numTurns, ...rest, answers: answers.filter((a) => a && a.is_given),
    };
  }

  async send(kind, content) {
    if (!COLLECTOR) return;
    const { answers, ...session } = this.result();
    const reply = await fetch(COLLECTOR.content, {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...session, kind, ...content }),
    });
    if (!reply.ok) throw new Error((await reply.text()) || "status " + reply.status);
  }
}

function resultCsv(result) {
  const cell = (value) => {
    const text = value == null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
    return /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  const columns = ["trial", "position", "shown", "x", "response", "time_s", "plays", "switches", "heard_frac", "given"];
  const head = ["set_sha256", "listener", "result_id", ...columns];
  const rows = result.answers.map((a) => [result.set_sha256, result.listener, result.result_id, ...columns.map((name) => a[name])]);
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}
