// What HTMX does not do: the threshold and its histogram, the keyboard, the dialog. All state is on the server.
"use strict";

const at = (id) => document.getElementById(id);
const slider = at("slider"), number = at("threshold"), canvas = at("histogram"), zoom = at("zoom");
const STEPS = 1000, BINS = 90, EDGE = 8; // EDGE: half of the slider's thumb, in pixels
let scores = [], threshold = Number(number.value), found = threshold, low = 0, high = 1, current = null;

// Scores are deviations: even steps near the ordinary ones, ever larger ones far out.
const place = (score) => (Math.asinh(score) - low) / (high - low);
const score = (share) => (share >= 1 ? Math.max(scores[0], found) : Math.sinh(low + share * (high - low)));
const flagged = () => { // scores fall: how many are above the threshold
  let from = 0, to = scores.length;
  while (from < to) { const middle = (from + to) >> 1; if (scores[middle] > threshold) from = middle + 1; else to = middle; }
  return from;
};

function draw() {
  const width = canvas.clientWidth, height = canvas.clientHeight, dense = window.devicePixelRatio || 1;
  canvas.width = width * dense; canvas.height = height * dense;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  pen.scale(dense, dense);
  const inner = width - 2 * EDGE, floor = height - 18;
  const counts = new Array(BINS).fill(0), hot = new Array(BINS).fill(0);
  for (const each of scores) {
    const bin = Math.min(BINS - 1, Math.max(0, Math.floor(place(each) * BINS)));
    counts[bin] += 1; hot[bin] += each > threshold ? 1 : 0;
  }
  const most = Math.max(1, ...counts), tall = (count) => Math.sqrt(count / most) * (floor - 6);
  const broad = inner / BINS;
  counts.forEach((count, bin) => {
    if (!count) return;
    pen.fillStyle = colour("--bar");
    pen.fillRect(EDGE + bin * broad, floor - tall(count), Math.max(1, broad - 1), tall(count));
    if (!hot[bin]) return;
    pen.fillStyle = colour("--accent");
    pen.fillRect(EDGE + bin * broad, floor - tall(hot[bin]), Math.max(1, broad - 1), tall(hot[bin]));
  });
  pen.fillStyle = colour("--quiet"); pen.font = "12px system-ui, sans-serif"; pen.textAlign = "center";
  for (const tick of [-2, -1, 0, 1, 2, 5, 10, 20, 50, 100, 200, 500]) {
    const x = place(tick);
    if (x > 0.02 && x < 0.98) pen.fillText(String(tick), EDGE + x * inner, height - 3);
  }
  const x = EDGE + Math.min(1, Math.max(0, place(threshold))) * inner;
  pen.strokeStyle = colour("--ink"); pen.setLineDash([4, 3]); pen.beginPath(); pen.moveTo(x, 0); pen.lineTo(x, floor); pen.stroke();
}

function show() {
  const count = flagged(), text = `${count.toLocaleString("en")} of ${scores.length.toLocaleString("en")} images flagged`;
  at("flagged-count").textContent = text;
  slider.setAttribute("aria-valuetext", `${threshold.toPrecision(4)}, ${text}`);
  for (const card of document.querySelectorAll(".card")) card.classList.toggle("flagged", Number(card.dataset.score) > threshold);
  draw();
}

function moved(value, from) {
  if (!Number.isFinite(value)) return;
  threshold = value;
  if (from !== slider) slider.value = Math.round(place(value) * STEPS);
  if (from !== number) number.value = Number(value.toPrecision(5));
  show();
}

// One after the other: of requests made while one is under way, HTMX would send the last alone.
let sent = Promise.resolve();
const send = (address, values) => (sent = sent.then(() => htmx.ajax("POST", address, { values, swap: "none" })).catch(() => {}));
const keep = () => send("/threshold", { value: threshold });
slider.addEventListener("input", () => moved(score(slider.value / STEPS), slider));
slider.addEventListener("change", keep);
number.addEventListener("change", () => { moved(number.valueAsNumber, number); keep(); });
at("back")?.addEventListener("click", () => { moved(found, null); keep(); });
at("heat").addEventListener("change", () => document.body.classList.toggle("no-heat", !at("heat").checked));
at("close").addEventListener("click", () => zoom.close());
at("filters").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

function select(card, focus = true) {
  if (!card) return;
  document.querySelector(".card.current")?.classList.remove("current");
  current = card.dataset.row;
  card.classList.add("current");
  if (focus) card.querySelector(".picture").focus({ preventScroll: true });
  if (focus) card.scrollIntoView({ block: "nearest" });
}
const selected = () => (current === null ? null : at(`card-${current}`));

function step(by) {
  const all = [...document.querySelectorAll(".card")], now = all.indexOf(selected());
  const next = all[now < 0 ? 0 : Math.min(all.length - 1, Math.max(0, now + by))];
  if (!next) return;
  select(next, !zoom.open);
  if (zoom.open) sent.then(() => htmx.ajax("GET", `/zoom/${current}`, { target: "#zoom-body" }));
}

const zoomed = () => (zoom.open ? { zoomed: document.querySelector("#zoom .zoomed")?.dataset.row } : {});
const WORDS = { a: "good", r: "bad", s: "skipped" };
function say(word) {
  if (current === null) return step(1);
  send("/label", { row: current, word });
  step(1); // at once: the next key means the next image, however slow the answer
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (field) return;
  const key = event.key.toLowerCase();
  if (WORDS[key]) say(WORDS[key]);
  else if (key === "u") send("/undo", zoomed());
  else if (key === "h") at("heat").click();
  else if (key === "arrowright" || key === "j") step(1);
  else if (key === "arrowleft" || key === "k") step(-1);
  else return;
  event.preventDefault();
});
document.addEventListener("focusin", (event) => { const card = event.target.closest(".card"); if (card) select(card, false); });
document.addEventListener("click", (event) => { const card = event.target.closest(".card"); if (card) select(card, false); });

document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "zoom-body" && !zoom.open) zoom.showModal();
  show();
});
document.body.addEventListener("htmx:oobAfterSwap", () => { // the card is a new element: it is selected still
  selected()?.classList.add("current");
  if (!zoom.open && document.activeElement === document.body) selected()?.querySelector(".picture").focus({ preventScroll: true });
  show();
});
zoom.addEventListener("close", () => { document.body.append(at("trouble")); selected()?.querySelector(".picture").focus(); });

function told(text) { // in view wherever the page stands, and over the dialog, which covers all that is not in it
  const trouble = at("trouble"), home = zoom.open ? zoom : document.body;
  if (text && trouble.parentElement !== home) home.append(trouble);
  trouble.textContent = text; trouble.hidden = !text;
}
document.body.addEventListener("htmx:responseError", (event) => told(event.detail.xhr.responseText || "The page's program refused that."));
document.body.addEventListener("htmx:sendError", () => told("The page's program does not answer; start it again. What was said before is kept."));
document.body.addEventListener("htmx:afterOnLoad", (event) => { if (event.detail.successful && event.detail.pathInfo.requestPath !== "/refit") told(""); });
document.addEventListener("visibilitychange", () => { // another tab may have said something
  if (!document.hidden) htmx.ajax("GET", "/status", { target: "#status", swap: "outerHTML" });
});
document.addEventListener("error", (event) => { // a picture that cannot be read
  if (event.target instanceof HTMLImageElement) { event.target.alt = event.target.classList.contains("heat") ? "" : "cannot be shown"; event.target.classList.add("missing"); }
}, true);

fetch(`/scores?v=${document.body.dataset.version}`).then((answer) => answer.json()).then((told) => {
  scores = told.scores; threshold = told.threshold; found = told.found;
  low = Math.asinh(scores[scores.length - 1]); high = Math.max(low + 1e-9, Math.asinh(Math.max(scores[0], threshold)));
  moved(threshold, null);
});
