"use strict";
// Sorts tables, filters trials by the ranges on the parallel coordinates, and copies lines. All of the page can be read
// without it.

const data = JSON.parse(document.getElementById("data").textContent);

// Tables with `aria-sort` on one of their headers can be sorted by each of them.
for (const table of document.querySelectorAll("table:has(th[aria-sort])")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(table, headers, column));
  });
}

function sort(table, headers, column) {
  const isDown = headers[column].getAttribute("aria-sort") === "ascending";
  headers.forEach((header) => header.removeAttribute("aria-sort"));
  headers[column].setAttribute("aria-sort", isDown ? "descending" : "ascending");
  const sign = isDown ? -1 : 1;
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
  for (const each of rows) each.number = each.text === "" ? NaN : Number(each.text);
  rows.sort((a, b) => {
    if (a.text === "" || b.text === "") return (a.text === "") - (b.text === ""); // what has no value comes last
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
    return sign * a.text.localeCompare(b.text);
  });
  table.tBodies[0].append(...rows.map((each) => each.row));
}

// A trial's marks in all charts, and its row.
const marks = new Map();
for (const mark of document.querySelectorAll("[data-trial]")) {
  if (!marks.has(mark.dataset.trial)) marks.set(mark.dataset.trial, []);
  marks.get(mark.dataset.trial).push(mark);
}

let pointed = null;
function point(trial) {
  if (trial === pointed) return;
  for (const mark of marks.get(pointed) ?? []) mark.classList.remove("on");
  for (const mark of marks.get(trial) ?? []) mark.classList.add("on");
  pointed = trial;
}
document.addEventListener("pointerover", (event) => point(event.target.closest("[data-trial]")?.dataset.trial ?? null));

const coordinates = document.getElementById("coordinates");
if (coordinates) addRanges(data.axes, data.lines);

// Two handles on each axis: the trials between them are shown. `lines`: each trial's number and its shares of the axes.
function addRanges(axes, lines) {
  const top = coordinates.querySelector("svg").getBoundingClientRect().top - coordinates.getBoundingClientRect().top;
  const ranges = axes.map((axis, index) => {
    const range = document.createElement("div");
    range.className = "range tools";
    range.style.top = `${top + 56 * index + 19}px`;
    const [from, to] = [0, 1000].map((value) => handle(axis, value));
    range.append(from, to);
    coordinates.append(range);
    return { from, to };
  });

  function handle(axis, value) {
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: 1000, value });
    input.setAttribute("aria-label", `${axis.path} ${value ? "to" : "from"}`);
    input.addEventListener("input", () => { tell(axis, input); show(); });
    tell(axis, input);
    return input;
  }

  function show() {
    const limits = ranges.map(({ from, to }) => {
      const [low, high] = [Number(from.value), Number(to.value)].sort((a, b) => a - b);
      return low === 0 && high === 1000 ? null : [low / 1000, high / 1000]; // a whole axis also has trials without a value
    });
    let shown = 0;
    const isAll = limits.every((limit) => limit === null);
    const inside = new Set();
    for (const [number, shares] of lines) {
      const isIn = shares.every((share, axis) => limits[axis] === null || (limits[axis][0] <= share && share <= limits[axis][1]));
      if (isIn) { inside.add(String(number)); shown += 1; }
    }
    for (const [trial, found] of marks) {
      const isOut = !isAll && !inside.has(trial);
      for (const mark of found) {
        if (mark instanceof HTMLElement) mark.hidden = isOut;
        else mark.classList.toggle("out", isOut);
      }
    }
    document.getElementById("shown").textContent = isAll ? "" : `${shown} of ${lines.length} completed trials are shown`;
  }
}

// Says in words where a handle stands.
function tell(axis, input) {
  const share = Number(input.value) / 1000;
  let text;
  if (axis.choices) text = String(axis.choices[Math.min(Math.floor(share * axis.choices.length), axis.choices.length - 1)]);
  else {
    const value = axis.log ? axis.low * (axis.high / axis.low) ** share : axis.low + share * (axis.high - axis.low);
    text = value.toPrecision(3);
  }
  input.setAttribute("aria-valuetext", text);
  input.title = text;
}

for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = "Copied";
    } catch { // a page in a frame may not: then the line is selected
      getSelection().selectAllChildren(block);
      button.textContent = "Selected: press Ctrl-C";
    }
  });
  block.after(button);
}
