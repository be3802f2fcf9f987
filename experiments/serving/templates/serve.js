"use strict";
// Sends the drawing, or the file that was chosen, dropped or pasted, to the server, and shows the probabilities.

const get = (id) => document.getElementById(id);
const canvas = get("drawing");
const pen = canvas.getContext("2d");
const PICTURES = get("file").accept.split(",");
const WIDTH = 22; // of the pen, in pixels of the canvas
let isDark = false; // the pen

function clear() {
  pen.fillStyle = isDark ? "#fff" : "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  Object.assign(pen, { strokeStyle: isDark ? "#000" : "#fff", lineWidth: WIDTH, lineCap: "round", lineJoin: "round" });
}

function line(from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function say(text) {
  get("verdict").textContent = text;
  get("answer").hidden = true;
}

async function ask(path, request = {}) {
  const token = get("token").value;
  const headers = { ...request.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...request, headers });
  const answer = await response.json();
  if (response.status === 401) get("locked").hidden = false;
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

let asked = 0;
async function send(picture, type) {
  const number = ++asked;
  try {
    const request = { method: "POST", body: picture, headers: { "Content-Type": type } };
    const { predictions } = await ask("invocations", request);
    if (number === asked) show(predictions); // a later picture may have overtaken this one
  } catch (error) {
    if (number === asked) say(error.message);
  }
}

function show({ label: [label], probabilities: [row], class_names }) {
  const ranked = class_names.map((name, index) => ({ name, share: row[index] ?? 0 })).sort((a, b) => b.share - a.share);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  get("verdict").textContent = `${class_names[row.indexOf(Math.max(...row))] ?? label}: ${percent(ranked[0].share)}`;
  get("answer").tBodies[0].replaceChildren(...ranked.map(({ name, share }) => {
    const line = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    const number = Object.assign(line.insertCell(), { className: "number", textContent: percent(share) });
    const meter = Object.assign(document.createElement("meter"), { value: share, max: 1 });
    meter.setAttribute("aria-label", name);
    const bar = Object.assign(line.insertCell(), { className: "bar" });
    bar.append(meter);
    line.prepend(head);
    line.append(number, bar);
    return line;
  }));
  get("answer").hidden = false;
}

async function open(file) {
  if (!PICTURES.includes(file.type)) return say(`${file.name || "This"} is not a picture of a type that the model takes.`);
  clear();
  try { // what the browser cannot show, such as TIFF, the server may still read
    const shown = await createImageBitmap(file);
    const scale = Math.min(canvas.width / shown.width, canvas.height / shown.height);
    const [width, height] = [shown.width * scale, shown.height * scale];
    pen.imageSmoothingEnabled = scale < 1;
    pen.drawImage(shown, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  } catch { /* nothing to show */ }
  return send(file, file.type);
}

function sendDrawing() {
  canvas.toBlob((picture) => send(picture, "image/png"), "image/png");
}

// By pointer.
let last = null;
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  line(last, last);
});
canvas.addEventListener("pointermove", (event) => {
  if (last === null) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) {
    line(last, place(each));
    last = place(each);
  }
});
for (const kind of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(kind, () => {
    if (last === null) return;
    last = null;
    sendDrawing();
  });
}

// By keyboard.
const STEPS = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10] };
let hand = [canvas.width / 2, canvas.height / 2];
let isDown = false;
canvas.addEventListener("keydown", (event) => {
  if (event.key === " ") {
    isDown = !isDown;
    if (isDown) line(hand, hand);
    else sendDrawing();
  } else if (event.key in STEPS) {
    const to = hand.map((value, axis) => Math.min(Math.max(value + STEPS[event.key][axis], 0), canvas.width));
    if (isDown) line(hand, to);
    hand = to;
  } else return;
  event.preventDefault();
});

get("clear").addEventListener("click", () => {
  asked += 1; // an answer that is on its way is no longer of interest
  clear();
  say("Draw something, or choose a picture.");
});
get("paper").addEventListener("click", () => {
  isDark = !isDark;
  get("paper").setAttribute("aria-pressed", isDark);
  get("clear").click();
});
get("file").addEventListener("change", () => {
  const [file] = get("file").files;
  if (file) open(file);
});
get("drop").addEventListener("dragover", (event) => {
  event.preventDefault();
  get("drop").classList.add("over");
});
get("drop").addEventListener("dragleave", () => get("drop").classList.remove("over"));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  get("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) open(file);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file);
});

async function introduce() {
  try {
    const { name, run_id, class_names, image_shape: [height, width] } = await ask("model");
    get("about").textContent = `${name}, run ${run_id.slice(0, 8)}: ${class_names.length} classes; pictures are scaled to ${width}×${height}.`;
    say("Draw something, or choose a picture.");
  } catch (error) {
    say(error.message);
  }
}

get("token").addEventListener("change", introduce);
clear();
introduce();
