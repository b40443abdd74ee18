// The screens around the trials: who listens, a break, and the results.
const main = document.getElementById("main");
const live = document.getElementById("live");
let say = (text) => { live.textContent = ""; setTimeout(() => { live.textContent = text; }, 30); };

function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function show(...nodes) {
  main.replaceChildren(...nodes);
  document.querySelectorAll(".bar").forEach((bar) => bar.remove());
  window.scrollTo(0, 0);
  const heading = main.querySelector("h1");
  if (heading) { heading.setAttribute("tabindex", "-1"); heading.focus({ preventScroll: true }); }
}

function showProgress(session) {
  const box = document.getElementById("progress");
  box.hidden = !session;
  if (!session) return;
  const done = session.state.answers.filter((answer) => answer && answer.is_given).length;
  const bar = document.getElementById("done");
  bar.max = session.numTurns;
  bar.value = done;
  document.getElementById("done-text").textContent = `${done} of ${session.numTurns} done`;
}

// Single keys get in the way of some voice control and screen readers: they can be switched off
const areKeysOn = () => readStore("keys") !== "off";

function keySwitch() {
  const box = element("input", { type: "checkbox", id: "keys-on" });
  box.checked = areKeysOn();
  box.addEventListener("change", () => {
    writeStore("keys", box.checked ? "on" : "off");
    document.body.classList.toggle("no-keys", !box.checked);
  });
  return element("label", { class: "row", for: "keys-on" }, box, "Answer and play with single keys");
}

function keyTable() {
  const rows = [
    [METHOD.names({ shown: SET.trials[0].clips }).map((name) => name[0]).join(", "), "listen to that clip, from the same moment"], ["Space", "play, pause"], ["Home", "from the start"],
    ["O", "repeat on, off"], ["[ and ]", "repeat from here, up to here"], ...METHOD.keyHelp,
    ["Enter", "next"], ["Left", "back"],
  ];
  const table = element("table", { class: "keys" });
  for (const [keys, meaning] of rows) {
    table.append(element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, keys)), element("td", {}, meaning)));
  }
  return table;
}

function choose(name, legend, options, chosen) {
  const select = element("select", { id: name });
  for (const text of ["", ...options]) select.append(element("option", { value: text }, text || "rather not say"));
  select.value = chosen || "";
  return element("label", { class: "field", for: name }, legend, select);
}

function volumeCheck(player) {
  const ordinary = SET.trials[1].clips[0]; // the practice may be in noise
  return element("div", { class: "row" },
    element("button", { type: "button", onclick: async () => { player.load([clipSamples(ordinary)]); await player.play(); } }, "Play a test sentence"),
    element("span", { class: "soft" }, "Set a comfortable volume now, and leave it there until the end."));
}

function welcome(player, begin) {
  showProgress(null);
  const known = knownListeners();
  const last = readStore("last");
  const name = element("input", { type: "text", id: "listener", autocomplete: "off", maxlength: "40", required: true, value: "" });
  const devices = choose("device", "What do you listen with?", ["headphones", "speakers", "phone or laptop speaker"]);
  const hearing = choose("hearing", "Your hearing", ["normal, as far as I know", "some hearing loss"]);
  const trouble = element("p", { class: "note", role: "alert", hidden: true });
  const form = element("form", { class: "card", novalidate: true },
    element("h2", {}, known.length ? "Somebody else listens" : "Before you begin"),
    element("label", { class: "field", for: "listener" }, "Your listener id",
      element("span", { class: "soft" }, "A number or a word you were given or make up; no real name is needed."), name),
    devices, hearing, volumeCheck(player), trouble,
    element("button", { type: "submit", class: "primary" }, "Begin"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const listener = name.value.trim();
    if (!/^[\w .@-]{1,40}$/u.test(listener)) {
      trouble.textContent = "Give a listener id of up to 40 letters, digits, dots, dashes or underscores.";
      trouble.hidden = false;
      return name.focus();
    }
    if (known.includes(listener)) {
      trouble.textContent = `Somebody began as ${listener} on this device. Press "Continue as ${listener}" above if that is you; if not, give another id.`;
      trouble.hidden = false;
      return name.focus();
    }
    const session = Session.open(listener);
    session.state.device = devices.querySelector("select").value || session.state.device;
    session.state.hearing = hearing.querySelector("select").value || session.state.hearing;
    begin(session);
  });
  const intro = element("section", { class: "card" },
    element("h1", {}, "What to do"),
    element("p", {}, METHOD.task),
    element("p", { class: "soft" }, `About ${counted(SET.minutes, "minute")}, ${counted(SET.trials.length, "screen")}, the first for practice. Use headphones in a quiet room if you can. `
      + "Listen to every clip to its end once; you can change between them at any moment and they go on from the same place. "
      + (COLLECTOR ? "Every answer is saved on the lab's machine before you go on." : "Answers stay in this browser until you download them at the end; you can close the page and come back.")),
    element("details", {}, element("summary", {}, "Keys"), keyTable(), keySwitch()));
  const resume = known.map((listener) => {
    const session = Session.open(listener);
    const done = session.state.answers.filter((a) => a && a.is_given).length;
    const text = session.state.finished ? `See the results of ${listener}` : `Continue as ${listener} (${done} of ${session.numTurns} done)`;
    return element("button", { type: "button", class: listener === last ? "primary" : "", "data-listener": listener, onclick: () => begin(session) }, text);
  });
  show(intro, ...(known.length ? [element("section", { class: "card" }, element("h2", {}, "Begun on this device"), element("div", { class: "row" }, ...resume))] : []), form);
  const first = resume.find((button) => button.dataset.listener === last) || null;
  (first || name).focus({ preventScroll: true });
}

function pause(session, go) {
  const button = element("button", { type: "button", class: "primary", onclick: go }, "Go on");
  show(element("section", { class: "card" }, element("h1", {}, "Time for a short break"),
    element("p", {}, "Rest your ears for a few minutes. Everything so far is kept; you can also close the page and come back later."),
    element("div", { class: "row" }, button)));
  button.focus({ preventScroll: true });
}

function download(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
}

function finish(session, back) {
  const comment = element("textarea", { id: "comment", maxlength: "2000" });
  comment.value = session.state.comment;
  const note = element("p", { class: "soft", role: "status" }, COLLECTOR ? "Your answers are saved on the lab's machine." : "Download the results and send them to whoever asked you to listen.");
  const stem = `listening-${SET.set_sha256.slice(0, 8)}-${session.state.listener.replace(/[^\w-]+/g, "_")}`;
  const text = () => JSON.stringify(session.result(), null, 1) + "\n";
  comment.addEventListener("input", () => { session.state.comment = comment.value; session.keep(); });
  const sendComment = async () => {
    try { await session.send("session", {}); note.textContent = "Saved."; } catch (error) { note.textContent = "Not saved: " + error.message; }
  };
  const primary = element("button", { type: "button", class: "primary", id: "download",
    onclick: () => { download(stem + ".json", "application/json", text()); session.state.downloaded = true; session.keep(); note.textContent = `Saved as ${stem}.json`; } }, "Download results");
  const area = element("textarea", { readonly: true, hidden: true, "aria-label": "Results as text" });
  const copy = async () => {
    try { await navigator.clipboard.writeText(text()); note.textContent = "Copied."; } catch {
      area.hidden = false; area.value = text(); area.focus(); area.select(); note.textContent = "Copy the text below.";
    }
  };
  show(element("section", { class: "card" }, element("h1", {}, "Thank you"),
    element("p", {}, "That was the last one."),
    element("label", { class: "field", for: "comment" }, "Anything you want to say about it? (optional)", comment),
    element("div", { class: "row" }, primary,
      element("button", { type: "button", onclick: () => download(stem + ".csv", "text/csv", resultCsv(session.result())) }, "As a table (CSV)"),
      element("button", { type: "button", onclick: copy }, "Copy"),
      COLLECTOR ? element("button", { type: "button", onclick: sendComment }, "Send the comment") : null,
      element("button", { type: "button", onclick: back }, "Back to the answers")),
    note, area));
  primary.focus({ preventScroll: true });
}
