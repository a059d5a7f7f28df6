// The slice viewer: panels side by side, one control bar, one state.
//
// The page sends which layers there are (viewer.py); planes come from /api/planes/… and nothing here ever reruns
// the page. Every layer of every panel has a canvas of its own, stacked, so that opacity and contrast are CSS, and
// hidden classes are a rewritten tRNS chunk of the PNG at hand: none of them asks the server.
//
// For tests and measurements the root element carries data-axis, data-plane (asked for, counted from 0) and
// data-drawn (the plane all panels show), and __flips: {axis, plane, ms} from asking to drawn.

const BITMAP_BYTES = 256 * 2 ** 20;
const FILE_BYTES = 64 * 2 ** 20;
const AHEAD = 8;
const BEHIND = 2;
const PLAY_MS = 80;
const REST_MS = 120; // after a jump nobody knows where to next: wait this long before fetching neighbours
const TOLD_MS = 2000;
const COPY_LINK = "Copy link";
const MOST_ZOOM = 64;
const AXES = "zyx";
const COLUMNS = { z: 2, y: 2, x: 1 }; // which axis runs to the right, and which down, in a plane along z, y, x
const ROWS = { z: 1, y: 0, x: 0 };

// ---------------------------------------------------------------- what all viewers of the page share

class Lru {
  // Forgets what was unused longest; `kept(key)` protects what is on the screen.
  constructor(budget, drop = () => {}, kept = () => false) {
    Object.assign(this, { budget, drop, kept, used: 0, map: new Map() });
  }
  get(key) {
    const entry = this.map.get(key);
    if (!entry) return undefined;
    this.map.delete(key);
    this.map.set(key, entry);
    return entry.value;
  }
  has(key) {
    return this.map.has(key);
  }
  set(key, value, bytes) {
    const old = this.map.get(key);
    if (old) this.remove(key, old);
    this.map.set(key, { value, bytes });
    this.used += bytes;
    for (const [name, entry] of this.map) {
      if (this.used <= this.budget) break;
      if (name !== key && !this.kept(name)) this.remove(name, entry);
    }
  }
  remove(key, entry) {
    this.map.delete(key);
    this.used -= entry.bytes;
    this.drop(entry.value);
  }
}

const lanes = new Set();
const bitmaps = new Lru(
  BITMAP_BYTES,
  (bitmap) => bitmap.close(),
  (id) => [...lanes].some((lane) => lane.wanted?.id === id || lane.shown === id),
);
const files = new Lru(FILE_BYTES);
const onTheWay = new Map(); // address -> {promise, controller, users}
const remembered = new Map(); // viewer's key -> its state, for when Streamlit takes the element away and back

async function download(address, signal) {
  let answer;
  try {
    answer = await fetch(address, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error || `The server answered ${answer.status}.`);
  }
  const bytes = await answer.arrayBuffer();
  files.set(address, bytes, bytes.byteLength);
  return bytes;
}

// Two panels that show the same plane wait for one download; it is aborted once nobody waits.
async function file(address, signal) {
  const held = files.get(address);
  if (held) return held;
  let work = onTheWay.get(address);
  if (!work) {
    const controller = new AbortController();
    work = { controller, users: 0, promise: download(address, controller.signal) };
    onTheWay.set(address, work);
    work.promise.catch(() => {}).finally(() => onTheWay.get(address) === work && onTheWay.delete(address));
  }
  work.users += 1;
  const leave = () => {
    work.users -= 1;
    if (work.users === 0) {
      onTheWay.delete(address);
      work.controller.abort();
    }
  };
  signal.addEventListener("abort", leave, { once: true });
  try {
    return await work.promise;
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

async function decode({ id, address, hidden }, signal) {
  let bytes = await file(address, signal);
  const isPng = new Uint8Array(bytes, 0, 1)[0] === 0x89;
  if (isPng && hidden.length) bytes = withHidden(bytes, hidden);
  const blob = new Blob([bytes], { type: isPng ? "image/png" : "image/jpeg" });
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  bitmaps.set(id, bitmap, bitmap.width * bitmap.height * 4);
}

// ---------------------------------------------------------------- hidden classes: the PNG's tRNS chunk

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function withHidden(png, entries) {
  const bytes = new Uint8Array(png.slice(0));
  const view = new DataView(bytes.buffer);
  for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) !== 0x74524e53) continue; // "tRNS"
    const length = view.getUint32(at);
    for (const entry of entries) if (entry < length) bytes[at + 8 + entry] = 0;
    let crc = 0xffffffff; // a decoder drops a chunk whose checksum is wrong
    for (let i = at + 4; i < at + 8 + length; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
    view.setUint32(at + 8 + length, (crc ^ 0xffffffff) >>> 0);
    break;
  }
  return bytes.buffer;
}

// ---------------------------------------------------------------- one layer of one panel

class Lane {
  // One request on its way and one waiting. A result nobody waits for any more is kept but never drawn.
  constructor(viewer, canvas) {
    Object.assign(this, { viewer, canvas, ink: canvas.getContext("2d") });
    Object.assign(this, { wanted: null, busy: null, error: "", shown: "", queue: [] });
    lanes.add(this);
  }
  want(picture) {
    if (this.wanted?.id !== picture.id) this.error = "";
    this.wanted = picture;
    this.queue = [];
    // A plane fetched ahead must not hold up the one asked for; one asked for earlier may finish.
    if (this.busy?.ahead && this.busy.id !== picture.id) this.busy.abort();
    this.pump();
  }
  ready() {
    return Boolean(this.error) || bitmaps.has(this.wanted.id);
  }
  fetchAhead(pictures) {
    this.queue = pictures;
    this.pump();
  }
  pump() {
    if (this.busy) return;
    const demanded = this.wanted && !this.ready();
    const next = demanded ? this.wanted : this.queue.shift();
    if (!next) return;
    if (bitmaps.has(next.id)) return void this.pump();
    const controller = new AbortController();
    const work = { id: next.id, ahead: !demanded, abort: () => controller.abort() };
    this.busy = work;
    decode(next, controller.signal)
      .catch((error) => {
        if (error.name === "AbortError") return;
        if (this.wanted?.id === next.id) this.error = error.message;
        else this.queue = []; // let the person meet the error where it is, and do not ask for more meanwhile
      })
      .finally(() => {
        if (this.busy === work) this.busy = null;
        if (this.wanted?.id === next.id) this.viewer.settle();
        this.pump();
      });
  }
  draw(box, smooth) {
    const bitmap = this.error ? undefined : bitmaps.get(this.wanted.id);
    this.shown = bitmap ? this.wanted.id : "";
    this.paint(box, smooth);
  }
  paint({ left, top, width, height }, smooth) {
    const bitmap = bitmaps.get(this.shown);
    this.ink.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!bitmap) return;
    this.ink.imageSmoothingEnabled = smooth;
    this.ink.drawImage(bitmap, left, top, width, height);
  }
  close() {
    this.busy?.abort();
    this.queue = [];
    this.wanted = null;
    lanes.delete(this);
  }
}

// ---------------------------------------------------------------- small helpers

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// Browsers give the clipboard to safe addresses only; on others an old command still works.
async function copied(text, beside) {
  if (navigator.clipboard && window.isSecureContext) {
    return navigator.clipboard.writeText(text).then(() => true, () => false);
  }
  const area = make("textarea", { value: text, className: "unseen" });
  beside.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function length(nm) {
  if (nm < 1000) return `${+nm.toPrecision(4)} nm`;
  return nm < 1e6 ? `${+(nm / 1000).toPrecision(4)} µm` : `${+(nm / 1e6).toPrecision(4)} mm`;
}

// 1, 2 or 5 times a power of ten, the largest below `nm`.
function roundLength(nm) {
  const power = 10 ** Math.floor(Math.log10(nm));
  return power * (nm >= 5 * power ? 5 : nm >= 2 * power ? 2 : 1);
}

function freshState(shape) {
  const middle = shape.map((count) => Math.floor(count / 2));
  const state = { axis: "z", planes: middle, zoom: 1, cx: 0.5, cy: 0.5, black: 0, white: 255 };
  Object.assign(state, { hidden: new Set(), off: new Set(), opacity: {}, touched: false });
  readAddress(state, shape);
  return state;
}

// ?view=<axis>_<plane>[_<zoom>_<cx>_<cy>], centre as a share of the plane; or, as a person would write it,
// ?axis=<axis>&plane=<plane>. Planes count from 0. What is written is the first kind.
function readAddress(state, shape) {
  const query = new URLSearchParams(location.search);
  const said = query.get("view") ?? `${query.get("axis") ?? "z"}_${query.get("plane") ?? ""}`;
  const found = /^([zyx])_(\d{1,7})(?:_([\d.]{1,8})_([\d.]{1,8})_([\d.]{1,8}))?$/.exec(said);
  if (!found) return;
  const axis = AXES.indexOf(found[1]);
  state.axis = found[1];
  state.planes[axis] = clamp(Number(found[2]), 0, shape[axis] - 1);
  state.touched = true;
  if (!found[3]) return;
  state.zoom = clamp(Number(found[3]) || 1, 1, MOST_ZOOM);
  state.cx = clamp(Number(found[4]) || 0, 0, 1);
  state.cy = clamp(Number(found[5]) || 0, 0, 1);
}

function addressOf(state) {
  const start = `${state.axis}_${state.planes[AXES.indexOf(state.axis)]}`;
  if (state.zoom === 1) return start;
  return `${start}_${+state.zoom.toFixed(2)}_${state.cx.toFixed(4)}_${state.cy.toFixed(4)}`;
}

// ---------------------------------------------------------------- the viewer

class Viewer {
  constructor(data) {
    this.panels = [];
    this.path = location.pathname;
    this.direction = 1;
    this.ends = new AbortController();
    this.root = make("div", { className: "viewer", tabIndex: 0, role: "group", "aria-label": "Slice viewer" });
    this.root.__flips = [];
    this.stages = make("div", { className: "stages" });
    this.bar = make("div", { className: "bar" });
    this.looks = make("div", { className: "bar looks" });
    this.root.append(this.bar, this.stages, this.looks);
    this.buildBar();
    this.sizes = new ResizeObserver(() => this.resize());
    this.listen();
    this.update(data);
  }

  update(data) {
    const layers = data.panels.flatMap((panel) => panel.layers);
    if (!remembered.has(data.key)) remembered.set(data.key, freshState(data.shape));
    const previous = this.data;
    this.data = data;
    this.state = remembered.get(data.key);
    this.state.planes = this.state.planes.map((plane, i) => clamp(plane, 0, data.shape[i] - 1));
    if (data.shape[0] < 2) this.state.axis = "z";
    for (const layer of layers) if (layer.kind === "labels") this.state.opacity[layer.name] ??= layer.opacity;
    this.root.style.setProperty("--height", `${data.height}px`);
    this.matchTheme();
    this.matchPanels();
    if (looksOf(previous) !== looksOf(data)) this.buildLooks();
    this.showControls();
    this.applyLooks();
    this.resize();
    this.ask(this.plane, { flip: false });
  }

  // The browser's own sliders and boxes know a light and a dark look; Streamlit's theme need not be the system's.
  matchTheme() {
    if (!this.root.isConnected) return; // no colours yet
    const [red, green, blue] = getComputedStyle(this.root).color.match(/[\d.]+/g).map(Number);
    this.root.style.colorScheme = red + green + blue > 384 ? "dark" : "light";
  }

  get axisNumber() {
    return AXES.indexOf(this.state.axis);
  }
  get plane() {
    return this.state.planes[this.axisNumber];
  }
  get count() {
    return this.data.shape[this.axisNumber];
  }

  // ------------------------------------------------------------ panels

  matchPanels() {
    const kinds = (panel) => panel.layers.map((layer) => layer.kind).join();
    for (const [i, wanted] of this.data.panels.entries()) {
      const panel = this.panels[i];
      if (panel && panel.kinds === kinds(wanted)) {
        panel.layers = wanted.layers;
      } else {
        const made = this.buildPanel(wanted, kinds(wanted));
        if (panel) this.dropPanel(panel, made.box);
        else this.stages.append(made.box);
        this.panels[i] = made;
      }
      this.panels[i].caption.textContent = wanted.title;
      this.panels[i].caption.hidden = !wanted.title;
    }
    for (const panel of this.panels.splice(this.data.panels.length)) this.dropPanel(panel);
    this.stages.dataset.panels = String(this.panels.length);
  }

  buildPanel(wanted, kinds) {
    const caption = make("figcaption");
    const stage = make("div", { className: "stage", role: "img" });
    const canvases = wanted.layers.map((layer) => make("canvas", { className: layer.kind }));
    const ruler = make("div", { className: "ruler" });
    const problem = make("div", { className: "problem", role: "status" });
    stage.append(...canvases, ruler, problem);
    const box = make("figure", {}, caption, stage);
    this.sizes.observe(stage);
    this.listenStage(stage);
    const own = canvases.map((canvas) => new Lane(this, canvas));
    return { box, stage, caption, ruler, problem, kinds, layers: wanted.layers, lanes: own, drawn: "" };
  }

  dropPanel(panel, successor) {
    this.sizes.unobserve(panel.stage);
    for (const lane of panel.lanes) lane.close();
    if (successor) panel.box.replaceWith(successor);
    else panel.box.remove();
  }

  picture(layer, plane) {
    const version = encodeURIComponent(layer.version);
    const address = `${layer.url}/${this.state.axis}/${plane}?v=${version}`;
    const hidden = layer.kind === "labels" && layer.chips ? [...this.state.hidden] : [];
    return { address, hidden, id: hidden.length ? `${address}#${hidden}` : address };
  }

  // ------------------------------------------------------------ asking and drawing

  ask(plane, { flip = true } = {}) {
    plane = clamp(plane, 0, this.count - 1);
    if (flip) this.asked = { plane, axis: this.state.axis, at: performance.now() };
    this.jumped = Math.abs(plane - this.plane) > 1;
    if (plane !== this.plane) this.direction = Math.sign(plane - this.plane);
    clearTimeout(this.resting);
    this.state.planes[this.axisNumber] = plane;
    this.root.dataset.axis = this.state.axis;
    this.root.dataset.plane = String(plane);
    for (const panel of this.panels) {
      panel.lanes.forEach((lane, i) => lane.want(this.picture(panel.layers[i], plane)));
    }
    this.settle();
    this.showPosition();
    if (flip) this.moved();
  }

  // Draws each panel whose layers have all arrived, together, so that labels never lie on another plane's image.
  settle() {
    let missing = false;
    for (const panel of this.panels) {
      if (panel.lanes.some((lane) => !lane.ready())) {
        missing = true;
        continue;
      }
      const drawn = panel.lanes.map((lane) => lane.wanted.id + lane.error).join("\n");
      if (panel.drawn === drawn) continue;
      panel.drawn = drawn;
      const { box, smooth } = this.boxOf(panel);
      for (const lane of panel.lanes) lane.draw(box, smooth && lane.canvas.className === "image");
      panel.problem.textContent = [...new Set(panel.lanes.map((lane) => lane.error))].filter(Boolean).join(" ");
      this.describe(panel);
    }
    if (!missing) this.settled();
  }

  settled() {
    if (this.panels.every((panel) => !panel.problem.textContent)) this.root.dataset.drawn = String(this.plane);
    if (this.asked?.plane === this.plane && this.asked.axis === this.state.axis) {
      this.root.__flips.push({ ...this.asked, ms: performance.now() - this.asked.at });
      if (this.root.__flips.length > 1000) this.root.__flips.shift();
      this.asked = null;
    }
    clearTimeout(this.resting);
    if (this.jumped) this.resting = setTimeout(() => this.fetchAhead(), REST_MS);
    else this.fetchAhead();
  }

  fetchAhead() {
    const [height, width] = this.planeShape();
    const bytes = height * width * 4 * this.panels.reduce((sum, panel) => sum + panel.lanes.length, 0);
    const most = clamp(Math.floor((0.6 * BITMAP_BYTES) / Math.max(1, bytes)), 1, AHEAD + BEHIND);
    const steps = [];
    for (let step = 1; step <= AHEAD; step++) steps.push(step);
    for (let step = 1; step <= BEHIND; step++) steps.splice(3 * step, 0, -step);
    const planes = steps
      .slice(0, most)
      .map((step) => this.plane + step * this.direction)
      .filter((plane) => plane >= 0 && plane < this.count);
    for (const panel of this.panels) {
      panel.lanes.forEach((lane, i) => {
        if (!lane.error) lane.fetchAhead(planes.map((plane) => this.picture(panel.layers[i], plane)));
      });
    }
  }

  planeShape() {
    return [this.data.shape[ROWS[this.state.axis]], this.data.shape[COLUMNS[this.state.axis]]];
  }

  // Where the plane lies on a panel's canvas, in device pixels, at its true physical proportions.
  boxOf(panel) {
    const { width: stageWidth, height: stageHeight } = panel.lanes[0]?.canvas ?? { width: 1, height: 1 };
    const [rows, columns] = this.planeShape();
    const high = rows * this.data.voxel[ROWS[this.state.axis]];
    const wide = columns * this.data.voxel[COLUMNS[this.state.axis]];
    const scale = Math.min(stageWidth / wide, stageHeight / high) * this.state.zoom; // device pixels a nanometre
    const [width, height] = [wide * scale, high * scale];
    const left = stageWidth / 2 - this.state.cx * width;
    const top = stageHeight / 2 - this.state.cy * height;
    const smooth = Math.min(width / columns, height / rows) < 1;
    return { box: { left, top, width, height }, smooth, scale };
  }

  repaint() {
    for (const panel of this.panels) {
      const { box, smooth, scale } = this.boxOf(panel);
      for (const lane of panel.lanes) lane.paint(box, smooth && lane.canvas.className === "image");
      this.drawRuler(panel, scale / (window.devicePixelRatio || 1));
    }
  }

  drawRuler(panel, pixelsPerNm) {
    const nm = roundLength((panel.stage.clientWidth * 0.25) / pixelsPerNm);
    if (!Number.isFinite(nm)) return;
    panel.ruler.style.width = `${nm * pixelsPerNm}px`;
    panel.ruler.textContent = length(nm);
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    for (const panel of this.panels) {
      const width = Math.max(1, Math.round(panel.stage.clientWidth * ratio));
      const height = Math.max(1, Math.round(panel.stage.clientHeight * ratio));
      for (const { canvas } of panel.lanes) {
        if (canvas.width !== width) canvas.width = width;
        if (canvas.height !== height) canvas.height = height;
      }
    }
    this.repaint();
  }

  // ------------------------------------------------------------ controls

  buildBar() {
    this.axes = [...AXES].map((axis) => {
      const plane = { z: "xy", y: "xz", x: "yz" }[axis];
      const button = make("button", { type: "button", textContent: axis, title: `Planes along ${axis} (key ${axis})` });
      button.setAttribute("aria-label", `Step along ${axis}, showing ${plane} planes`);
      button.onclick = () => this.setAxis(axis);
      return button;
    });
    this.axisGroup = make("div", { className: "axes", role: "group", "aria-label": "Axis" }, ...this.axes);
    this.play = make("button", { type: "button", className: "play", title: "Play (space)" });
    this.play.onclick = () => this.togglePlay();
    this.slider = make("input", { type: "range", min: "0", step: "1", "aria-label": "Plane" });
    this.slider.oninput = () => {
      this.stop();
      this.ask(Number(this.slider.value));
    };
    this.position = make("output", { className: "position" });
    this.fit = make("button", { type: "button", className: "fit", textContent: "Fit", title: "Show the whole plane (double click)" });
    this.fit.onclick = () => this.setZoom(1, 0.5, 0.5);
    this.link = make("button", { type: "button", className: "link", textContent: COPY_LINK });
    this.link.title = "Copy the address of this plane, to come back to it or send it to somebody";
    this.link.onclick = () => this.copyLink();
    this.bar.append(this.axisGroup, this.play, this.slider, this.position, this.fit, this.link);
    this.stop();
  }

  buildLooks() {
    const { state, data } = this;
    this.looks.replaceChildren();
    const layers = data.panels.flatMap((panel) => panel.layers);
    for (const name of new Set(layers.filter((layer) => layer.kind === "labels").map((layer) => layer.name))) {
      const shown = make("input", { type: "checkbox", checked: !state.off.has(name) });
      const strength = this.range(`Opacity of ${name}`, 0, 100, Math.round(state.opacity[name] * 100), (value) => {
        state.opacity[name] = value / 100;
      });
      shown.dataset.layer = name;
      shown.onchange = () => {
        state.off[shown.checked ? "delete" : "add"](name);
        this.applyLooks();
      };
      const label = make("label", {}, shown, make("span", { textContent: name }));
      this.looks.append(make("div", { className: "control" }, label, strength));
    }
    if (layers.some((layer) => layer.kind === "image")) this.looks.append(this.contrastControl());
    if (data.classes.length) this.looks.append(this.classChips());
    this.looks.hidden = !this.looks.childElementCount;
  }

  range(name, low, high, value, change) {
    const input = make("input", { type: "range", min: low, max: high, value, title: name, "aria-label": name });
    input.oninput = () => {
      change(Number(input.value));
      this.applyLooks();
    };
    return input;
  }

  contrastControl() {
    const { state } = this;
    const black = this.range("Grey value shown as black", 0, 254, state.black, (value) => {
      state.black = value;
      if (state.white <= value) white.value = state.white = value + 1;
    });
    const white = this.range("Grey value shown as white", 1, 255, state.white, (value) => {
      state.white = value;
      if (state.black >= value) black.value = state.black = value - 1;
    });
    const text = (words) => make("span", { textContent: words });
    return make("div", { className: "control" }, text("Black"), black, text("White"), white);
  }

  classChips() {
    const chips = this.data.classes.map(({ entry, name, colour }) => {
      const swatch = make("i", { "aria-hidden": "true" });
      swatch.style.setProperty("--colour", colour);
      const chip = make("button", { type: "button", className: "chip" }, swatch, make("span", { textContent: name }));
      const mark = () => chip.setAttribute("aria-pressed", String(!this.state.hidden.has(entry)));
      chip.title = "Show or hide this class";
      chip.onclick = () => {
        this.state.hidden[this.state.hidden.has(entry) ? "delete" : "add"](entry);
        mark();
        this.ask(this.plane, { flip: false });
      };
      mark();
      return chip;
    });
    return make("div", { className: "chips", role: "group", "aria-label": "Classes" }, ...chips);
  }

  // Opacity, visibility and contrast are CSS: nothing is decoded or drawn again.
  applyLooks() {
    const { state } = this;
    const slope = 255 / (state.white - state.black);
    const contrast = 1 + 2 * (state.black / 255) * slope;
    const plain = state.black === 0 && state.white === 255;
    for (const panel of this.panels) {
      panel.lanes.forEach(({ canvas }, i) => {
        const { kind, name } = panel.layers[i];
        // (k·v − ½)·c + ½ with c = 1 + 2·black·slope and k = slope / c is the straight line from black to white.
        if (kind === "image") canvas.style.filter = plain ? "" : `brightness(${slope / contrast}) contrast(${contrast})`;
        else canvas.style.opacity = state.off.has(name) ? "0" : String(state.opacity[name]);
      });
    }
    for (const box of this.looks.querySelectorAll("input[data-layer]")) box.checked = !state.off.has(box.dataset.layer);
  }

  showControls() {
    for (const button of this.axes) button.setAttribute("aria-pressed", String(button.textContent === this.state.axis));
    // A single image has nothing to step through.
    this.axisGroup.hidden = this.data.shape[0] < 2;
    for (const control of [this.slider, this.play, this.position]) control.hidden = this.count < 2;
    this.slider.max = String(this.count - 1);
    this.showPosition();
  }

  showPosition() {
    const where = length(this.plane * this.data.voxel[this.axisNumber]);
    const value = String(this.plane);
    if (this.slider.value !== value) this.slider.value = value;
    this.slider.setAttribute("aria-valuetext", `plane ${this.plane + 1} of ${this.count}, ${where}`);
    this.position.textContent = `${this.plane + 1} / ${this.count} · ${where}`;
  }

  describe(panel) {
    const title = panel.caption.textContent;
    const what = `plane ${this.plane + 1} of ${this.count} along ${this.state.axis}`;
    panel.stage.setAttribute("aria-label", title ? `${title}: ${what}` : what);
  }

  setAxis(axis) {
    if (axis === this.state.axis || this.data.shape[0] < 2) return;
    this.state.axis = axis;
    Object.assign(this.state, { zoom: 1, cx: 0.5, cy: 0.5 });
    for (const panel of this.panels) panel.lanes.forEach((lane) => (lane.queue = []));
    this.showControls();
    this.ask(this.plane);
  }

  setZoom(zoom, cx, cy) {
    Object.assign(this.state, { zoom, cx: clamp(cx, 0, 1), cy: clamp(cy, 0, 1) });
    this.repaint();
    this.moved();
  }

  togglePlay() {
    if (this.playing) return this.stop();
    this.play.textContent = "❚❚";
    this.play.setAttribute("aria-label", "Stop playing");
    this.playing = setInterval(() => {
      if (!this.root.isConnected) return this.stop();
      if (!this.asked) this.ask((this.plane + 1) % this.count);
    }, PLAY_MS);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = 0;
    this.play.textContent = "▶";
    this.play.setAttribute("aria-label", "Play through the planes");
  }

  // ------------------------------------------------------------ mouse and keys

  listenStage(stage) {
    stage.addEventListener("wheel", (event) => this.wheel(event, stage), { passive: false });
    stage.addEventListener("dblclick", () => this.setZoom(1, 0.5, 0.5));
    stage.addEventListener("pointerdown", (event) => {
      if (event.button === 0) stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!stage.hasPointerCapture(event.pointerId) || this.state.zoom === 1) return;
      const { width, height } = this.cssBox(stage);
      const { zoom, cx, cy } = this.state;
      this.setZoom(zoom, cx - event.movementX / width, cy - event.movementY / height);
    });
  }

  cssBox(stage) {
    const ratio = window.devicePixelRatio || 1;
    const { box } = this.boxOf(this.panels.find((panel) => panel.stage === stage));
    return { left: box.left / ratio, top: box.top / ratio, width: box.width / ratio, height: box.height / ratio };
  }

  wheel(event, stage) {
    const zoom = clamp(this.state.zoom * 2 ** (-clamp(event.deltaY, -200, 200) / 250), 1, MOST_ZOOM);
    if (zoom === this.state.zoom) return; // zoomed out already: let the page scroll
    event.preventDefault();
    const rect = stage.getBoundingClientRect();
    const [px, py] = [event.clientX - rect.left, event.clientY - rect.top];
    const { left, top, width, height } = this.cssBox(stage);
    const grow = zoom / this.state.zoom;
    // The point under the pointer stays under it.
    const cx = (px - left) / width - (px - rect.width / 2) / (width * grow);
    const cy = (py - top) / height - (py - rect.height / 2) / (height * grow);
    if (zoom === 1) this.setZoom(1, 0.5, 0.5);
    else this.setZoom(zoom, cx, cy);
  }

  listen() {
    this.root.addEventListener("keydown", (event) => this.key(event));
    const { signal } = this.ends;
    // When a page sets a query parameter, Streamlit writes the whole address anew from what it knew before.
    window.navigation?.addEventListener("currententrychange", () => this.writeAddressSoon(), { signal });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    const onOtherRange = target.type === "range" && target !== this.slider;
    const onButton = target.tagName === "BUTTON" || target.type === "checkbox";
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
    const upDown = event.key === "ArrowUp" || event.key === "ArrowDown";
    if (onOtherRange && (step || event.key === "Home" || event.key === "End")) return;
    if (upDown && target !== this.slider) return;
    if (step) this.flipTo(this.plane + step);
    else if (event.key === "Home") this.flipTo(0);
    else if (event.key === "End") this.flipTo(this.count - 1);
    else if (event.key === " " && !onButton) this.togglePlay();
    else if (event.key === "l") this.toggleLabels();
    else if (AXES.includes(event.key)) this.setAxis(event.key);
    else return;
    event.preventDefault();
    event.stopPropagation(); // Streamlit has single-key shortcuts of its own
  }

  flipTo(plane) {
    this.stop();
    this.ask(plane);
  }

  toggleLabels() {
    const names = Object.keys(this.state.opacity);
    const any = names.some((name) => !this.state.off.has(name));
    this.state.off = new Set(any ? names : []);
    this.applyLooks();
  }

  // ------------------------------------------------------------ the address bar

  moved() {
    this.state.touched = true;
    this.writeAddressSoon();
  }

  writeAddressSoon() {
    clearTimeout(this.writing);
    this.writing = setTimeout(() => this.writeAddress(), 250);
  }

  writeAddress() {
    // A viewer nobody has moved leaves the address alone, and none writes into another page's.
    if (!this.state.touched || !this.root.isConnected || location.pathname !== this.path) return;
    const wanted = addressOf(this.state);
    const query = new URLSearchParams(location.search);
    if (query.get("view") === wanted) return;
    query.set("view", wanted);
    for (const name of ["axis", "plane"]) query.delete(name);
    history.replaceState(history.state, "", `${location.pathname}?${query}${location.hash}`);
  }

  async copyLink() {
    this.state.touched = true;
    clearTimeout(this.writing);
    this.writeAddress();
    const done = await copied(location.href, this.root);
    this.link.textContent = done ? "Copied" : "Copy it from the address bar";
    clearTimeout(this.telling);
    this.telling = setTimeout(() => (this.link.textContent = COPY_LINK), TOLD_MS);
  }

  close() {
    this.stop();
    clearTimeout(this.writing);
    clearTimeout(this.telling);
    clearTimeout(this.resting);
    this.ends.abort();
    this.sizes.disconnect();
    for (const panel of this.panels) for (const lane of panel.lanes) lane.close();
  }
}

// What the row of looks is made from: it is rebuilt only when this changes, or a slider would slip from the hand.
function looksOf(data) {
  if (!data) return "";
  const layers = data.panels.flatMap((panel) => panel.layers.map(({ name, kind }) => `${kind}:${name}`));
  return JSON.stringify([data.key, [...new Set(layers)], data.classes]);
}

const viewers = new WeakMap();

export default function ({ data, parentElement }) {
  let viewer = viewers.get(parentElement);
  if (viewer && viewer.root.isConnected) {
    viewer.update(data);
  } else {
    viewer?.close();
    viewer = new Viewer(data);
    parentElement.append(viewer.root);
    viewers.set(parentElement, viewer);
    viewer.matchTheme();
    viewer.resize();
  }
  // Streamlit also calls this for a call that a later one has overtaken: only a viewer off the page is closed.
  return () => setTimeout(() => viewer.root.isConnected || viewer.close());
}
