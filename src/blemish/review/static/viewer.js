// The enlarged view: zoom and pan of the image and the nearest one beside it, the level under the pointer, boxes, brush.
"use strict";

class Viewer {
  static MOST = 40; // screen pixels of one pixel of the image
  static STEP = 1.25;

  constructor(stage, beside, reading) {
    Object.assign(this, { stage, beside, reading, drawing: "", brush: 0.02, map: null, pointers: new Map() });
    this.width = Number(stage.dataset.width); this.height = Number(stage.dataset.height);
    this.mapWidth = Number(stage.dataset.mapWidth); this.mapHeight = Number(stage.dataset.mapHeight);
    for (const each of [stage, beside]) {
      const plane = each.querySelector(".plane");
      plane.style.width = `${this.width}px`; plane.style.height = `${this.height}px`;
      each.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      each.addEventListener("pointerdown", (event) => this.down(event));
      each.addEventListener("pointermove", (event) => this.move(event));
      for (const end of ["pointerup", "pointercancel"]) each.addEventListener(end, (event) => this.up(event));
      each.addEventListener("pointerleave", () => this.read(null));
      each.addEventListener("dblclick", (event) => this.zoomTo(this.scale > this.fitting * 1.01 ? this.fitting : 1 / this.dense, this.at(event)));
    }
    this.resized = new ResizeObserver(() => (this.fitted ? this.fit() : this.show()));
    this.resized.observe(stage);
    fetch(`/map/${stage.dataset.row}?v=${document.body.dataset.version}`).then((answer) => (answer.ok ? answer.arrayBuffer() : null))
      .then((data) => { this.map = data && new Float32Array(data); this.read(null); }).catch(() => {});
    this.fit();
  }

  get dense() { return window.devicePixelRatio || 1; }
  get fitting() { return Math.min(this.stage.clientWidth / this.width, this.stage.clientHeight / this.height, Viewer.MOST); }
  stop() { this.resized.disconnect(); }

  fit() {
    this.scale = this.fitting; this.fitted = true;
    this.show();
  }

  // The point (x, y) of a stage, in its pixels, stays where it is.
  zoomTo(scale, point = { x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 }) {
    const next = Math.max(this.fitting, Math.min(Viewer.MOST, scale)), factor = next / this.scale;
    this.x = point.x - (point.x - this.x) * factor; this.y = point.y - (point.y - this.y) * factor;
    this.scale = next; this.fitted = next <= this.fitting * 1.001;
    this.show();
  }

  pan(across, down) { this.x += across; this.y += down; this.show(); }

  show() {
    const { stage, scale } = this;
    const within = (offset, room, size) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, offset)));
    this.x = within(this.x ?? 0, stage.clientWidth, this.width * scale);
    this.y = within(this.y ?? 0, stage.clientHeight, this.height * scale);
    for (const each of [stage, this.beside]) {
      const plane = each.querySelector(".plane");
      plane.style.transform = `translate(${this.x}px, ${this.y}px) scale(${scale})`;
      plane.style.setProperty("--thin", String(1 / scale)); // one pixel of the screen, for lines
      plane.classList.toggle("magnified", scale * this.dense > 1.01);
      const image = each.querySelector(".pixels"); // all pixels once those of the smaller picture would be seen
      if (image.dataset.full && image.naturalWidth && scale * this.dense > (1.05 * image.naturalWidth) / this.width && image.naturalWidth < this.width) {
        image.src = image.dataset.full; delete image.dataset.full;
      }
    }
    this.read(null);
  }

  at(event) {
    const box = event.currentTarget.getBoundingClientRect();
    return { x: event.clientX - box.left - event.currentTarget.clientLeft, y: event.clientY - box.top - event.currentTarget.clientTop };
  }
  pixel(point) { return { x: (point.x - this.x) / this.scale, y: (point.y - this.y) / this.scale }; }

  wheel(event) {
    event.preventDefault();
    const turned = event.deltaMode ? event.deltaY * 30 : event.deltaY;
    this.zoomTo(this.scale * Math.exp(-turned / 400), this.at(event));
  }

  down(event) {
    if (event.button) return;
    event.currentTarget.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    this.start = this.drawing && event.currentTarget === this.stage && this.pointers.size === 1 ? this.pixel(this.at(event)) : null;
    this.points = this.start && [this.start];
    if (this.start) this.tell("drawing", this.drawn(this.start));
  }

  move(event) {
    const point = this.at(event), before = this.pointers.get(event.pointerId);
    if (!before) { this.read(this.pixel(point)); return; }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
    this.pointers.set(event.pointerId, point);
    if (this.start) {
      this.points.push(this.pixel(point));
      this.tell("drawing", this.drawn(this.pixel(point)));
    }
    else if (others.length) { // two fingers: what is between them follows them
      const far = (one) => Math.max(10, Math.hypot(one.x - others[0].x, one.y - others[0].y));
      const middle = (one) => ({ x: (one.x + others[0].x) / 2, y: (one.y + others[0].y) / 2 });
      this.zoomTo((this.scale * far(point)) / far(before), middle(before));
      this.pan(middle(point).x - middle(before).x, middle(point).y - middle(before).y);
    } else this.pan(point.x - before.x, point.y - before.y);
    this.read(this.pixel(point));
  }

  up(event) {
    const known = this.pointers.delete(event.pointerId);
    if (!known || !this.start) return;
    const place = event.type === "pointerup" ? this.drawn(this.pixel(this.at(event))) : null;
    this.start = null;
    this.tell("drawing", null);
    if (place && (place.stroke || (place.width > 1 && place.height > 1))) this.tell("drawn", place);
  }

  tell(what, detail) { this.stage.dispatchEvent(new CustomEvent(what, { detail })); }
  get radius() { return Math.max(0.5, this.brush * Math.max(this.width, this.height)); }
  drawn(end) { return this.drawing === "brush" ? this.stroke(this.points) : this.box(end); }

  // As the server takes it; of points closer than a quarter of the brush one is enough.
  stroke(points) {
    const apart = (one, other) => Math.hypot(one.x - other.x, one.y - other.y) >= this.radius / 4;
    const kept = points.reduce((found, point) => { if (!found.length || apart(point, found.at(-1))) found.push(point); return found; }, []);
    return { stroke: kept.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), radius: this.radius.toFixed(2) };
  }
  dab() { this.tell("drawn", this.stroke([this.pixel({ x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 })])); }

  box(end) { // whole pixels, inside the image
    const span = (one, other, most) => [Math.floor(Math.max(0, Math.min(one, other))), Math.ceil(Math.min(most, Math.max(one, other)))];
    const [left, right] = span(this.start.x, end.x, this.width), [top, bottom] = span(this.start.y, end.y, this.height);
    return { x: left, y: top, width: right - left, height: bottom - top };
  }

  read(pixel) { // without a pointer: in the middle of the view, which the keys move
    const where = pixel ? "pointer" : "middle";
    const { x, y } = pixel ?? this.pixel({ x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 });
    if (!this.map || !(x >= 0 && y >= 0 && x < this.width && y < this.height)) { this.reading.textContent = ""; return; }
    const level = this.map[Math.floor((y / this.height) * this.mapHeight) * this.mapWidth + Math.floor((x / this.width) * this.mapWidth)];
    this.reading.textContent = `Level ${level.toPrecision(3)} at pixel ${Math.floor(x)}, ${Math.floor(y)} (${where}); outlined from ${Number(this.reading.dataset.threshold).toPrecision(3)}. Zoom ${Math.round(100 * this.scale * this.dense)} %.`;
  }
}
