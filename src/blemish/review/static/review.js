// What HTMX does not do: the threshold, the keyboard, the selection, the dialog. All state is on the server.
"use strict";

const at = (id) => document.getElementById(id);
const slider = at("slider"), number = at("threshold"), zoom = at("zoom"), version = document.body.dataset.version;
const STEPS = 1000;
let scores = [], threshold = Number(number.value), found = threshold, low = 0, high = 1, current = null;

// Scores are deviations: even steps near the ordinary ones, ever larger ones far out.
const place = (score) => (Math.asinh(score) - low) / (high - low);
const score = (share) => (share >= 1 ? Math.max(scores[0], found) : Math.sinh(low + share * (high - low)));
const flagged = () => { // scores fall: how many are above the threshold
  let from = 0, to = scores.length;
  while (from < to) { const middle = (from + to) >> 1; if (scores[middle] > threshold) from = middle + 1; else to = middle; }
  return from;
};

let drawing = null, drawn = ""; // one at a time; the last one asked for is the one that stays
async function draw() {
  const wanted = `/histogram?threshold=${threshold}&width=${Math.max(200, Math.round(at("histogram").clientWidth))}&v=${version}`;
  if (drawing || wanted === drawn) return;
  drawing = wanted;
  try {
    const answer = await fetch(wanted);
    if (answer.ok) at("histogram").innerHTML = await answer.text();
  } catch { /* the count beside it is right all the same */ }
  drawing = null; drawn = wanted;
  draw();
}

function show() {
  const count = flagged(), text = `${count.toLocaleString("en")} of ${scores.length.toLocaleString("en")} images flagged`;
  at("flagged-count").textContent = text;
  at("back").hidden = threshold === found;
  slider.setAttribute("aria-valuetext", `${threshold.toPrecision(3)}, ${text}`);
  for (const card of document.querySelectorAll(".card")) {
    card.classList.toggle("flagged", Number(card.dataset.score) > threshold);
    card.classList.toggle("picked", picked.has(card.dataset.row));
    card.querySelector(".pick").checked = picked.has(card.dataset.row);
  }
  draw();
}

function moved(value, from) {
  if (!Number.isFinite(value)) return;
  threshold = value;
  if (from !== slider) slider.value = Math.round(place(value) * STEPS);
  if (from !== number) number.value = Number(value.toPrecision(5));
  show();
}

// All that is to be kept is sent one after the other, so that answers come in the order of the acts. Only this sends
// from the body: of requests that one element makes while another of its own is under way, HTMX drops all but the last.
let sent = Promise.resolve(), unsent = 0;
function send(address, values, more = { swap: "none" }) {
  unsent += 1;
  sent = sent.then(() => htmx.ajax("POST", address, { values, ...more })).catch(() => {}).finally(() => { unsent -= 1; });
  return sent;
}
window.addEventListener("beforeunload", (event) => { if (unsent) event.preventDefault(); });

// Buttons and forms with `data-post`. An answer may draw a button anew between the press and the release: it counts.
function post(element) {
  const { post: address, values, target } = element.dataset;
  const typed = element.matches("form") ? Object.fromEntries(new FormData(element)) : {};
  const type = address === "/boxes" ? { type: at("zoom-type").value } : {};
  send(address, { ...JSON.parse(values), ...typed, ...type }, target ? { target, swap: "outerHTML" } : undefined);
}
let pressed = null;
const button = (event) => event.target.closest("button[data-post]");
document.addEventListener("pointerdown", (event) => { pressed = button(event); });
document.addEventListener("pointerup", (event) => {
  const released = button(event);
  if (pressed && released && !pressed.isConnected && ["post", "values"].every((name) => pressed.dataset[name] === released.dataset[name])) post(released);
});
document.addEventListener("click", (event) => { if (button(event)) post(button(event)); });
document.addEventListener("change", (event) => { const form = event.target.closest(".remark"); if (form) post(form); });
const keep = () => send("/threshold", { value: threshold });
slider.addEventListener("input", () => moved(score(slider.value / STEPS), slider));
slider.addEventListener("change", keep);
number.addEventListener("change", () => { moved(number.valueAsNumber, number); keep(); });
at("back").addEventListener("click", () => { moved(found, null); keep(); });
at("close").addEventListener("click", () => zoom.close());
document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target === filters) filter();
  if (event.target.matches(".numbers-of-box")) post(event.target);
});
window.addEventListener("resize", draw);

const layer = at("layer"), LAYERS = [...layer.options].map((each) => each.value);
layer.addEventListener("change", () => { for (const each of LAYERS) document.body.classList.toggle(`layer-${each}`, each === layer.value); });
function nextLayer() {
  layer.value = LAYERS[(LAYERS.indexOf(layer.value) + 1) % LAYERS.length];
  layer.dispatchEvent(new Event("change"));
}
for (const id of ["layer", "new-type", "who"]) at(id).addEventListener("change", (event) => event.stopPropagation()); // these do not filter
at("who").addEventListener("change", () => send("/who", { who: at("who").value }));
at("new-type").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !at("new-type").value.trim()) return;
  event.preventDefault();
  label("bad", at("new-type").value);
  at("new-type").value = "";
});

// Cards come without HTMX, which raises events for every element that comes or goes: with hundreds of cards that is seen.
let listing = null; // what is under way
async function list(address, more = null) { // in place of all cards, or of the button `more`
  if (more && listing) return;
  listing?.abort();
  const mine = listing = new AbortController();
  try {
    const answer = await fetch(address, { headers: { "X-Version": version }, signal: mine.signal }), text = await answer.text();
    notify(answer.ok ? "" : text);
    if (answer.ok) {
      if (more) more.outerHTML = text; else at("cards").innerHTML = text;
      if (!zoom.open && !selected()) begin();
      show();
      watchEnd();
    }
  } catch { if (!mine.signal.aborted) notify(SILENT); }
  if (listing === mine) listing = null;
}
// The next cards come before the end of these is seen.
const nearEnd = new IntersectionObserver((seen) => { for (const { isIntersecting, target } of seen) if (isIntersecting) target.click(); }, { rootMargin: "0px 0px 200%" });
function watchEnd() {
  nearEnd.disconnect();
  const next = document.querySelector(".more button");
  if (next) nearEnd.observe(next);
}
const filters = at("filters");
function filter() { list(`/cards?${new URLSearchParams(new FormData(filters))}`); }
filters.addEventListener("change", filter);
let typing = 0;
at("find").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 150); });

function select(card, focus = true) {
  if (!card) return;
  document.querySelector(".card.current")?.classList.remove("current");
  current = card.dataset.row;
  card.classList.add("current");
  if (focus) card.querySelector(".picture").focus({ preventScroll: true });
  if (focus) card.scrollIntoView({ block: "nearest" });
}
function begin() { current = null; select(cards()[0], false); } // a key means the first image until another is selected
const selected = () => (current === null ? null : at(`card-${current}`));
const cards = () => [...document.querySelectorAll(".card")];

function step(by) {
  const all = cards(), now = all.indexOf(selected()), wanted = now < 0 ? 0 : now + by;
  const next = all[Math.min(all.length - 1, Math.max(0, wanted))];
  if (!next) return;
  select(next, !zoom.open);
  if (!zoom.open) return;
  if (wanted >= all.length - 2) document.querySelector(".more button")?.click(); // the next ones come
  enlarge();
  const after = all[wanted + by];
  if (after) new Image().src = `/picture/${after.dataset.row}?v=${version}`;
}

function enlarge() { sent.then(() => htmx.ajax("GET", `/zoom/${current}`, { source: "#zoom-body", target: "#zoom-body" })); }

// Several images, to be labelled together: by row, whether they are shown or not.
const picked = new Set();
let anchor = null;
function pick(card, range = false) {
  const all = cards(), from = all.findIndex((each) => each.dataset.row === anchor), to = all.indexOf(card);
  const rows = range && from >= 0 ? all.slice(Math.min(from, to), Math.max(from, to) + 1).map((each) => each.dataset.row) : [card.dataset.row];
  const add = range || !picked.has(card.dataset.row);
  for (const row of rows) { if (add) picked.add(row); else picked.delete(row); }
  anchor = card.dataset.row;
  select(card, false);
  shownSelection();
}
function unpick() { picked.clear(); anchor = null; shownSelection(); }
function shownSelection() {
  at("selection").hidden = !picked.size;
  at("selected-count").textContent = `${picked.size} selected`;
  show();
}
at("unselect").addEventListener("click", unpick);
at("selection").addEventListener("click", (event) => { if (event.target.dataset.word) label(event.target.dataset.word); });

const zoomed = () => (zoom.open ? { zoomed: document.querySelector("#zoom .zoomed")?.dataset.row } : {});
const WORDS = { a: "good", g: "good", r: "bad", s: "skipped" };
function label(word, type) {
  const kind = type === undefined ? {} : { type };
  if (picked.size && !zoom.open) { send("/label", { rows: [...picked].join(","), word, ...kind }); unpick(); return; }
  if (current === null) { step(1); return; }
  send("/label", { row: current, word, ...kind });
  step(1); // at once: the next key means the next image, however slow the answer
}

// The enlarged view: what is chosen there stays for the next image.
let viewer = null;
const view = { opacity: 0, outlined: true, both: true, drawing: "", brush: 15 }; // the brush: thousandths of the longer side
function mount() {
  viewer?.stop();
  const stage = at("stage");
  viewer = stage && new Viewer(stage, at("stage-beside"), at("under"));
  if (!viewer) return;
  at("opacity").value = view.opacity; at("outlined").checked = view.outlined; at("both").checked = view.both;
  stage.addEventListener("drawing", (event) => boxes(event.detail));
  stage.addEventListener("drawn", (event) => send("/boxes", { row: stage.dataset.row, type: at("zoom-type").value, ...event.detail }));
  looked();
}
function looked() {
  if (!viewer) return;
  const stage = at("stage"), beside = at("beside");
  viewer.drawing = view.drawing; viewer.brush = view.brush / 1000;
  stage.classList.toggle("drawing", view.drawing !== "");
  for (const [id, way] of [["draw", "box"], ["brush", "brush"]]) at(id)?.setAttribute("aria-pressed", String(view.drawing === way));
  if (at("brush-size")) at("brush-size").value = view.brush;
  const other = at("stage-beside"), image = other.querySelector("img"), fixed = "other" in other.dataset; // of the Run beside
  for (const each of [stage, other]) {
    each.querySelector(".plane").style.setProperty("--opacity", view.opacity / 100);
    each.classList.toggle("outlined", view.outlined);
  }
  if (!fixed && beside && image.dataset.row !== beside.dataset.row) {
    const address = `/picture/${beside.dataset.row}`;
    image.dataset.row = beside.dataset.row; image.dataset.full = `${address}?full=1&v=${version}`;
    image.alt = `The nearest normal image, ${beside.dataset.name}`;
    image.src = `${address}?v=${version}`;
  }
  other.hidden = !((fixed || beside) && view.both);
  boxes();
}
function boxes(open = null) {
  const drawn = [...document.querySelectorAll("#boxes li")].map((each) => each.dataset);
  at("drawn")?.replaceChildren(...[...drawn, ...(open ? [open] : [])].flatMap((place) => {
    if (place.stroke) return [shape("polyline", "stroke", { points: `${place.stroke} ${place.stroke.split(" ").at(-1)}`, "stroke-width": 2 * place.radius })];
    const { x, y, width, height, path } = place;
    return ["halo", "box"].map((kind) => (path ? shape("path", `${kind} painted`, { d: path }) : shape("rect", kind, { x, y, width, height })));
  }));
}
function shape(name, kind, attributes) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  found.setAttribute("class", kind);
  for (const [each, value] of Object.entries(attributes)) found.setAttribute(each, value);
  return found;
}
zoom.addEventListener("input", (event) => {
  if (event.target.id === "opacity") view.opacity = Number(event.target.value);
  else if (event.target.id === "outlined") view.outlined = event.target.checked;
  else if (event.target.id === "both") view.both = event.target.checked;
  else if (event.target.id === "brush-size") view.brush = Number(event.target.value);
  else return;
  looked();
});
const PAN = 80; // pixels of the screen a key moves the view
function drawBy(way) { view.drawing = view.drawing === way ? "" : way; looked(); }
function brushBy(factor) { view.brush = Math.max(1, Math.min(60, factor > 1 ? Math.ceil(view.brush * factor) : Math.floor(view.brush * factor))); looked(); }
const ACTS = {
  previous: () => step(-1), next: () => step(1),
  in: () => viewer?.zoomTo(viewer.scale * Viewer.STEP), out: () => viewer?.zoomTo(viewer.scale / Viewer.STEP),
  fit: () => viewer?.fit(), pixels: () => viewer?.zoomTo(1 / viewer.dense),
  heat: () => { view.opacity = view.opacity ? 0 : 80; at("opacity").value = view.opacity; looked(); },
  draw: () => drawBy("box"), brush: () => drawBy("brush"),
  thinner: () => brushBy(1 / 1.3), thicker: () => brushBy(1.3),
};
zoom.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) ACTS[button.dataset.do]();
  else if (button?.id === "draw" || button?.id === "brush") ACTS[button.id]();
});
const ZOOM_KEYS = { "+": "in", "=": "in", "-": "out", 0: "fit", z: "pixels", h: "heat", d: "draw", p: "brush", "[": "thinner", "]": "thicker", j: "next", k: "previous" };
const ARROWS = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] };
function zoomKey(key) {
  if (ZOOM_KEYS[key]) ACTS[ZOOM_KEYS[key]]();
  else if (ARROWS[key] && viewer && !viewer.fitted) viewer.pan(ARROWS[key][0] * PAN, ARROWS[key][1] * PAN);
  else if (key === "o") at("outlined")?.click();
  else if (key === "n") at("both")?.click();
  else if (key === "b") at("boxes-from-outlines")?.click();
  else if (key === "m") at("masks-from-outlines")?.click();
  else if (key === " " && view.drawing === "brush" && document.activeElement === at("stage")) viewer.dab();
  else if (key === "c") at("zoom-comment").focus();
  else if (key === "t") at("zoom-type").focus();
  else return false;
  return true;
}

function pageKey(key, event) {
  if (key === "h") nextLayer();
  else if (key === "x" && selected()) pick(selected(), event.shiftKey);
  else if (key === "escape" && picked.size) unpick();
  else if (key === "b") label("bad"); // enlarged, it draws boxes
  else if (key === "t") at("new-type").focus();
  else if (key === "?") document.querySelector(".help").open ^= true;
  else if (key === "/") at("find").focus();
  else return false;
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (field) return;
  const key = event.key.toLowerCase();
  const type = /^[1-9]$/.test(key) ? document.querySelectorAll("#status [data-type]")[Number(key) - 1]?.dataset.type : null;
  if (WORDS[key]) label(WORDS[key]);
  else if (type) label("bad", type);
  else if (key === "u") send("/undo", zoomed());
  else if (zoom.open ? zoomKey(key) : pageKey(key, event)) { /* done */ }
  else if (key === "arrowright" || key === "j") step(1);
  else if (key === "arrowleft" || key === "k") step(-1);
  else return;
  event.preventDefault();
});
document.addEventListener("focusin", (event) => { const card = event.target.closest(".card"); if (card) select(card, false); });
document.addEventListener("click", (event) => {
  const card = event.target.closest(".card"), type = event.target.closest("#status [data-type]");
  const { cards: address } = event.target.dataset;
  if (address) { list(address, event.target.closest(".more")); return; }
  if (type) label("bad", type.dataset.type);
  if (!card) return;
  if (event.target.matches(".pick")) { pick(card, event.shiftKey); return; }
  const image = event.target.closest(".picture");
  if (image && event.shiftKey) { anchor ??= current; pick(card, true); return; }
  if (image && (event.ctrlKey || event.metaKey)) { pick(card); return; }
  select(card, false);
  if (image) enlarge();
});

function offerTypes() { // in the filter, as they come into use
  const filter = at("filter-type"), known = new Set([...filter.options].map((each) => each.value));
  for (const { dataset } of document.querySelectorAll("#status [data-type]")) if (!known.has(dataset.type)) filter.add(new Option(dataset.type, dataset.type));
}
document.body.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "zoom-body" && !zoom.open) zoom.showModal();
});
document.body.addEventListener("htmx:afterSettle", () => { // only now: HTMX gives new elements the attributes of old ones for a moment
  if (!zoom.open) return;
  if (viewer && viewer.stage === at("stage")) { looked(); return; }
  const active = document.activeElement, fresh = !viewer;
  mount();
  if (fresh || active === document.body || active === zoom) at("stage")?.focus({ preventScroll: true });
});
document.body.addEventListener("htmx:oobAfterSwap", () => { // the card is a new element: it is selected still
  selected()?.classList.add("current");
  if (!zoom.open && document.activeElement === document.body) selected()?.querySelector(".picture").focus({ preventScroll: true });
  offerTypes();
  boxes();
  show();
});
zoom.addEventListener("close", () => {
  viewer?.stop(); viewer = null;
  document.body.append(at("trouble"));
  // The browser has given the focus back to the card that was enlarged first; the last one seen shall have it.
  select(at(`card-${document.querySelector("#zoom .zoomed")?.dataset.row}`) ?? selected());
});

const SILENT = "The page's program does not answer; start it again. All labels are kept.";
function notify(text) { // in view wherever the page stands, and over the dialog, which covers all that is not in it
  const trouble = at("trouble"), home = zoom.open ? zoom : document.body;
  if (text && trouble.parentElement !== home) home.append(trouble);
  trouble.textContent = text; trouble.hidden = !text;
}
document.body.addEventListener("htmx:responseError", (event) => notify(event.detail.xhr.responseText || "The page's program refused that."));
document.body.addEventListener("htmx:sendError", () => notify(SILENT));
document.body.addEventListener("htmx:afterOnLoad", (event) => { if (event.detail.successful && event.detail.pathInfo.requestPath !== "/refit") notify(""); });
document.addEventListener("visibilitychange", () => { // another tab may have added labels
  if (!document.hidden) htmx.ajax("GET", "/status", { source: "#status", target: "#status", swap: "outerHTML" });
});
document.addEventListener("error", (event) => { // a picture that cannot be read
  if (event.target instanceof HTMLImageElement) { event.target.alt = event.target.matches(".heat, .outline") ? "" : "cannot be shown"; event.target.classList.add("missing"); }
}, true);

fetch(`/scores?v=${version}`).then((answer) => answer.json()).then((answer) => {
  scores = answer.scores; threshold = answer.threshold; found = answer.found;
  low = Math.asinh(scores[scores.length - 1]); high = Math.max(low + 1e-9, Math.asinh(Math.max(scores[0], threshold)));
  moved(threshold, null);
});
begin();
watchEnd();
document.body.inert = false; // from now on clicks are heard
