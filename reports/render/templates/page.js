// Sort a table by the clicked column: numbers by their full value, words by the alphabet, cells without a value last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => order(a.cells[index], b.cells[index], head.classList.contains("number"), down ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}

function order(a, b, isNumber, sign) {
  if (!isNumber) return sign * a.textContent.trim().localeCompare(b.textContent.trim());
  const [left, right] = [a.dataset.sort, b.dataset.sort];
  if (left === undefined || right === undefined) return (left === undefined) - (right === undefined);
  return sign * (Number(left) - Number(right));
}

// A link of the contents unfolds what it leads to
function unfoldTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
  if (target.tagName === "DETAILS") target.querySelector("summary").focus({ preventScroll: true });
}
addEventListener("hashchange", unfoldTarget);
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", () => link.hash === location.hash && unfoldTarget());
}
unfoldTarget();

const sections = [...document.querySelectorAll("main > details")];
const unfold = document.getElementById("unfold");
if (unfold) {
  unfold.addEventListener("click", () => {
    const open = unfold.getAttribute("aria-pressed") !== "true";
    sections.forEach((section) => { section.open = open; });
    unfold.setAttribute("aria-pressed", String(open));
    unfold.textContent = open ? "Fold all" : "Unfold all";
  });
}

// Paper cannot be unfolded
let foldedBefore = [];
addEventListener("beforeprint", () => {
  foldedBefore = [...document.querySelectorAll("details:not([open])")];
  foldedBefore.forEach((section) => { section.open = true; });
});
addEventListener("afterprint", () => foldedBefore.forEach((section) => { section.open = false; }));

const copyButton = document.getElementById("copy");
copyButton.addEventListener("click", async () => {
  const text = JSON.parse(document.getElementById("markdown").textContent);
  const said = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = "Copied: verdict and table.";
  } catch {
    said.textContent = copyBySelection(text) ? "Copied: verdict and table." : "This browser lets no page copy; take report.md.";
  }
});

function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.setAttribute("aria-hidden", "true");
  area.className = "seen-by-readers";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  copyButton.focus();
  return done;
}
