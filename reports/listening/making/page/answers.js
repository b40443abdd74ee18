// What is asked on a screen, for each method: labels of the clips, the form, which keys answer, and when it is complete.
const QUALITY = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const DAMAGE = ["Very annoying", "Annoying", "Slightly annoying", "Audible, not annoying", "Inaudible"];
const COMPARED = ["Much worse", "Worse", "Slightly worse", "About the same", "Slightly better", "Better", "Much better"];
const letterOf = (index) => String.fromCharCode(65 + index);

const METHODS = {
  ab: {
    question: "Listen to A and B",
    task: "You hear the same sentence twice. Say which one sounds better, and rate each from 1 to 5.",
    names: () => ["A", "B"],
    channels: (answer) => answer.shown,
    form: (answer, changed) => [
      choices("preference", "Which one sounds better?", answer.response, changed, [
        { value: "first", big: "A", label: "A is better", key: "q" },
        { value: "none", big: "=", label: "No difference", key: "w" },
        { value: "second", big: "B", label: "B is better", key: "e" },
      ]),
      ...["A", "B"].map((name, i) => ratingChoices(`rating_${name.toLowerCase()}`, `How good is ${name}?`, i, answer, changed)),
    ],
    missing: ({ response }) => response.preference == null ? "Say which one sounds better"
      : response.rating_a == null ? "Rate A" : response.rating_b == null ? "Rate B" : null,
    keys: (key, answer, selected) => {
      const preference = { q: "first", w: "none", e: "second" }[key];
      if (preference) return { preference };
      if (/^[1-5]$/.test(key)) return { [selected === 0 ? "rating_a" : "rating_b"]: Number(key) };
      return null;
    },
    keyHelp: [["Q W E", "A is better, no difference, B is better"], ["1 to 5", "rate the one you are hearing"]],
  },
  abx: {
    question: "Is X the same as A, or as B?",
    task: "X is exactly one of the other two. Say which; guess if you cannot tell.",
    names: () => ["A", "B", "X"],
    channels: (answer) => [...answer.shown, answer.shown[answer.x]],
    form: (answer, changed) => [
      choices("match", "X is the same as", answer.response, changed, [
        { value: 0, big: "A", label: "X is A", key: "q" }, { value: 1, big: "B", label: "X is B", key: "e" },
      ]),
    ],
    missing: ({ response }) => (response.match == null ? "Say whether X is A or B" : null),
    keys: (key) => (key === "q" ? { match: 0 } : key === "e" ? { match: 1 } : null),
    keyHelp: [["Q, E", "X is A, X is B"]],
  },
  ccr: {
    question: "Compare B with A",
    task: "You hear the same sentence twice. Rate the quality of the second, B, compared with the first, A.",
    names: () => ["A", "B"],
    channels: (answer) => answer.shown,
    form: (answer, changed) => [
      choices("ccr", "Compared with A, B is", answer.response, changed,
        COMPARED.map((label, i) => ({ value: i - 3, big: i > 3 ? "+" + (i - 3) : String(i - 3), label, key: String(i + 1) })), true),
    ],
    missing: ({ response }) => (response.ccr == null ? "Compare B with A" : null),
    keys: (key) => (/^[1-7]$/.test(key) ? { ccr: Number(key) - 4 } : null),
    keyHelp: [["1 to 7", "much worse to much better"]],
  },
  dcr: {
    question: "Compare the sample with the reference",
    task: "First the reference, then the sample. Rate any damage that you hear in the sample against the reference.",
    names: () => ["Reference", "Sample"],
    channels: (answer) => answer.shown,
    form: (answer, changed) => [
      choices("dcr", "The damage in the sample is", answer.response, changed,
        DAMAGE.map((label, i) => ({ value: i + 1, big: String(i + 1), label, key: String(i + 1) })), true),
    ],
    missing: ({ response }) => (response.dcr == null ? "Rate the damage" : null),
    keys: (key) => (/^[1-5]$/.test(key) ? { dcr: Number(key) } : null),
    keyHelp: [["1 to 5", "very annoying to inaudible"]],
  },
  mushra: {
    question: "How good is each one, compared with the reference?",
    task: "Rate every clip from 0 to 100 against the reference. One of them is the reference itself: it should get 100.",
    names: (answer) => answer.shown.map((_, i) => (i === 0 ? "Reference" : letterOf(i - 1))),
    channels: (answer) => answer.shown,
    form: (answer, changed, stimulus) => [sliders(answer, changed, stimulus)],
    missing: ({ response, shown }) => {
      const index = shown.findIndex((_, i) => i > 0 && (response.ratings || [])[i] == null);
      return index > 0 ? `Rate ${letterOf(index - 1)}` : null;
    },
    keys: (key, answer, selected) => {
      if (selected === 0) return null;
      const ratings = [...(answer.response.ratings || answer.shown.map(() => null))];
      const step = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[key];
      if (/^[0-9]$/.test(key)) ratings[selected] = key === "0" ? 100 : Number(key) * 10;
      else if (step) ratings[selected] = Math.min(100, Math.max(0, (ratings[selected] ?? 50) + step));
      else return null;
      return { ratings };
    },
    keyHelp: [["1 to 9, 0", "10 to 90, 100 for the one you are hearing"], ["Up, Down", "one point more or less"]],
  },
};
const METHOD = METHODS[SET.method];

function choices(name, legend, response, changed, options, isTall = false) {
  const box = element("div", { class: isTall ? "choices tall" : "choices" });
  for (const { value, big, label, key } of options) {
    const input = element("input", { type: "radio", name, value: String(value), "aria-label": label, onchange: () => changed({ [name]: value }) });
    input.checked = response[name] === value;
    box.append(element("label", { class: "choice", title: label }, input, element("b", { "aria-hidden": "true" }, big),
      element("span", { "aria-hidden": "true" }, label), key ? element("kbd", { "aria-hidden": "true" }, key.toUpperCase()) : null));
  }
  return element("fieldset", {}, element("legend", {}, legend), box);
}

function ratingChoices(name, legend, stimulus, answer, changed) {
  const options = QUALITY.map((label, i) => ({ value: i + 1, big: String(i + 1), label: label, key: null }));
  const box = choices(name, legend, answer.response, changed, options);
  box.querySelectorAll("input").forEach((input, i) => input.setAttribute("aria-label", `${i + 1}, ${QUALITY[i]}`));
  return box;
}

// The button that plays a clip stands beside its slider
function sliders(answer, changed, stimulus) {
  const box = element("fieldset", { class: "sliders" }, element("legend", {}, "Quality of each clip"));
  box.append(element("div", { class: "scale", "aria-hidden": "true" }, ...QUALITY.map((word) => element("span", {}, word))));
  answer.shown.forEach((_, i) => {
    if (i === 0) return;
    const value = (answer.response.ratings || [])[i];
    const input = element("input", { type: "range", min: "0", max: "100", step: "1", "aria-label": `Quality of ${letterOf(i - 1)}` });
    input.value = value ?? 50;
    const output = element("output", {}, value == null ? "-" : String(value));
    const row = element("div", { class: value == null ? "slider unset" : "slider" }, stimulus(i), input, output);
    const take = () => {
      const ratings = [...(answer.response.ratings || answer.shown.map(() => null))];
      ratings[i] = Number(input.value);
      changed({ ratings });
    };
    input.addEventListener("input", take);
    input.addEventListener("click", take); // a slider left where it stands is an answer as well
    box.append(row);
  });
  return box;
}

// After an answer by key or slider: show what is stored, without building the form again (that would lose the focus)
function refreshForm(form, answer) {
  for (const input of form.querySelectorAll('input[type="radio"]')) {
    input.checked = String(answer.response[input.name]) === input.value;
  }
  form.querySelectorAll(".slider").forEach((row, place) => {
    const value = (answer.response.ratings || [])[place + 1];
    if (value == null) return;
    row.classList.remove("unset");
    row.querySelector("input").value = value;
    row.querySelector("output").textContent = String(value);
  });
}
