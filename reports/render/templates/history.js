// One course at a time: runs as dots, levels as lines, changes as bands; a window of runs that can be zoomed and moved.
const courses = JSON.parse(document.getElementById("data").textContent);
const plot = document.getElementById("plot");
const said = document.getElementById("said");
const SVG = "http://www.w3.org/2000/svg";
const view = { course: 0, first: 0, last: 0 };

function element(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function shown(value) {
  return value === 0 ? "0" : Math.abs(value) >= 1000 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
}

function choose(index) {
  view.course = index;
  view.first = 0;
  view.last = courses[index].runs.length - 1;
  draw();
}

function zoom(first, last) {
  const most = courses[view.course].runs.length - 1;
  view.first = Math.max(0, Math.min(first, most));
  view.last = Math.max(view.first, Math.min(last, most));
  draw();
}

function ticks(low, high) {
  const rough = (high - low) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return found;
}

function draw() {
  const course = courses[view.course];
  const narrow = plot.clientWidth < 520;
  const [width, height, left, right, top, bottom] = narrow ? [380, 260, 52, 10, 14, 40] : [960, 320, 64, 16, 14, 40];
  const runs = course.runs.slice(view.first, view.last + 1);
  const numbers = runs.flatMap((run) => (course.is_paced ? [run.value, run.raw] : [run.value]));
  let [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const margin = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - margin, high + margin];
  const span = Math.max(1, view.last - view.first);
  const x = (place) => left + ((width - left - right) * (place - view.first + (view.first === view.last ? 0.5 : 0))) / span;
  const y = (value) => height - bottom - ((height - top - bottom) * (value - low)) / (high - low);
  const clip = (place) => Math.max(view.first, Math.min(view.last, place));
  plot.replaceChildren();
  const svg = element(plot, "svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title(course) });
  for (const value of ticks(low, high)) {
    element(svg, "path", { class: "grid", d: `M${left} ${y(value)}H${width - right}` });
    element(svg, "text", { class: "end", x: left - 6, y: y(value) + 4 }, shown(value));
  }
  const dates = [view.first, view.last].filter((place, index, all) => all.indexOf(place) === index);
  dates.forEach((place, index) => {
    const anchor = dates.length === 1 ? "mid" : index ? "end" : "";
    element(svg, "text", { class: anchor, x: x(place), y: height - 22 }, course.runs[place].created.slice(0, 10));
  });
  element(svg, "text", { class: "mid", x: (left + width - right) / 2, y: height - 6 }, "runs in order of time");
  for (const change of course.changes) {
    if (change.last < view.first || change.first - 1 > view.last) continue;
    const [from, to] = [x(clip(change.first - 1)), x(clip(change.last))];
    const band = element(svg, "rect", {
      class: change.is_worse ? "worse" : "better", x: from, y: top, width: Math.max(2, to - from), height: height - top - bottom,
    });
    element(band, "title", {}, changeWords(change));
  }
  course.levels.forEach(([start, value], index) => {
    const end = (course.levels[index + 1]?.[0] ?? course.runs.length) - 1;
    if (end < view.first || start > view.last) return;
    element(svg, "path", { class: "level", d: `M${x(clip(start)) - 4} ${y(value)}H${x(clip(end)) + 4}` });
  });
  runs.forEach((run, index) => {
    const place = view.first + index;
    if (course.is_paced) element(svg, "circle", { class: "raw", cx: x(place), cy: y(run.raw), r: 2.5 });
    const dot = element(svg, "circle", { class: "run", cx: x(place), cy: y(run.value), r: 4, tabindex: 0 });
    dot.setAttribute("aria-label", runWords(course, run));
    dot.setAttribute("role", "img");
    for (const event of ["focus", "mouseenter"]) dot.addEventListener(event, () => { said.textContent = runWords(course, run); });
  });
  said.textContent = title(course);
  document.getElementById("back").disabled = view.first === 0 && view.last === course.runs.length - 1;
  document.getElementById("earlier").disabled = view.first === 0;
  document.getElementById("later").disabled = view.last === course.runs.length - 1;
  drag(svg, width, x);
}

function title(course) {
  const figure = FIGURE_TITLES[view.course];
  const paced = course.is_paced ? " (paced)" : "";
  return `${course.variant}, ${figure}${paced}, ${course.host_class}: ${course.outcome}, ${course.reason}.`;
}

function runWords(course, run) {
  const commit = run.commit ? `, commit ${run.commit.slice(0, 12)}` : "";
  const raw = course.is_paced ? `, as measured ${shown(run.raw)}` : "";
  return `${run.created.slice(0, 16).replace("T", " ")}: ${shown(run.value)}${raw}${commit}, ${run.run_id}`;
}

function changeWords(change) {
  const names = change.suspects ? change.suspects.commits.map((one) => `${one.commit.slice(0, 12)} ${one.subject}`) : [];
  return [`${change.is_worse ? "worse" : "better"}, p ${change.p_value.toPrecision(1)}`, ...names].join("\n");
}

function drag(svg, width, x) {
  let start = null, band = null;
  const at = (event) => ((event.clientX - svg.getBoundingClientRect().left) * width) / svg.getBoundingClientRect().width;
  const nearest = (pixel) => {
    let best = view.first;
    for (let place = view.first; place <= view.last; place += 1) if (Math.abs(x(place) - pixel) < Math.abs(x(best) - pixel)) best = place;
    return best;
  };
  svg.addEventListener("pointerdown", (event) => {
    start = at(event);
    band = element(svg, "rect", { class: "drag", x: start, y: 0, width: 0, height: 1000 });
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (start === null) return;
    band.setAttribute("x", Math.min(start, at(event)));
    band.setAttribute("width", Math.abs(at(event) - start));
  });
  svg.addEventListener("pointerup", (event) => {
    if (start === null) return;
    const [first, last] = [nearest(Math.min(start, at(event))), nearest(Math.max(start, at(event)))];
    start = null;
    band.remove();
    if (last > first) zoom(first, last);
  });
}

const rows = [...document.getElementById("table").tBodies[0].rows];
const FIGURE_TITLES = {};
for (const link of document.querySelectorAll("a[data-course]")) {
  const row = link.closest("tr[data-figure]");
  if (row) FIGURE_TITLES[link.dataset.course] = row.dataset.figure;
  link.addEventListener("click", () => choose(Number(link.dataset.course)));
}
document.getElementById("back").addEventListener("click", () => choose(view.course));
document.getElementById("recent").addEventListener("click", () => {
  const most = courses[view.course].runs.length - 1;
  zoom(most - 29, most);
});
function move(sign) {
  const span = view.last - view.first;
  const most = courses[view.course].runs.length - 1;
  const first = Math.max(0, Math.min(most - span, view.first + sign * Math.max(1, Math.ceil(span / 2))));
  zoom(first, first + span);
}
document.getElementById("earlier").addEventListener("click", () => move(-1));
document.getElementById("later").addEventListener("click", () => move(1));

const filters = ["host", "figure", "outcome"].map((name) => [name, document.getElementById(`by-${name}`)]);
function filter() {
  for (const row of rows) row.hidden = filters.some(([name, select]) => select.value && row.dataset[name] !== select.value);
  document.getElementById("num-shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
}
for (const [, select] of filters) select.addEventListener("change", filter);
filter();
choose(0);
addEventListener("resize", draw);
