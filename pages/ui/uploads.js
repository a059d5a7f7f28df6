// The upload box: sends files to /api/uploads/… (seglib.serving.uploads) in slices, so that a broken connection, a
// pause or a closed page costs at most the slice that was under way. Small files travel together in bundles.
//
// The page (uploads.py) hears of it when the list changes and when everything is on the server, never in between.
// Boxes live by their key as long as the browser's page does, so that a rerun or another page stops no upload.
//
// For tests the root element carries data-state: empty, preparing, sending, waiting, paused, stuck or done.

const API = "/api/uploads/";
const PARALLEL = 3;
const BUNDLE_FILES = 400;
const REGISTERED_AT_ONCE = 200;
const FORGOTTEN_AT_ONCE = 5000;
const SILENCE_MS = 60_000;
const LONGEST_WAIT_MS = 15_000;
const RATE_OVER_MS = 6000;
const ROWS = 60;
const GOING = new Set(["preparing", "sending", "waiting"]);
const LEFT_BEHIND = new Set(["thumbs.db", "desktop.ini", "__macosx"]);

// ---------------------------------------------------------------- the server

class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error || `The server answered ${status}.`);
    Object.assign(this, { status, answer: answer ?? {} });
  }
}
class Lost extends Error {} // no answer: the connection or the server is gone
class Stopped extends Error {} // by a person

// fetch does not tell how much was sent.
function send(method, path, body, { signal, sent } = {}) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new Stopped());
    const request = new XMLHttpRequest();
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => request.abort(), SILENCE_MS);
    };
    const stop = () => request.abort();
    request.open(method, API + path);
    request.setRequestHeader("X-Seglib-Upload", "1");
    request.upload.onprogress = (event) => {
      heard();
      sent?.(event.loaded);
    };
    request.onload = () => {
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // a proxy's page, or none
      }
      if (request.status === 200 && answer) resolve(answer);
      else if ([502, 503, 504].includes(request.status)) reject(new Lost());
      else reject(new Refused(request.status, answer));
    };
    request.onerror = () => reject(new Lost());
    request.onabort = () => reject(signal?.aborted ? new Stopped() : new Lost());
    request.onloadend = () => {
      clearTimeout(silence);
      signal?.removeEventListener("abort", stop);
    };
    signal?.addEventListener("abort", stop);
    heard();
    request.send(body);
  });
}

const post = (path, content, options) => send("POST", path, JSON.stringify(content), options);
const sleep = (ms) => new Promise((go) => setTimeout(go, ms));

// ---------------------------------------------------------------- what a file is known by

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function crc32(bytes, before = 0) {
  let crc = ~before;
  for (let index = 0; index < bytes.length; index++) crc = CRC[(crc ^ bytes[index]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

const bytesOf = async (blob) => new Uint8Array(await blob.arrayBuffer());

// As upload_store.sample_of does it.
async function sampleOf(file, { sampleBytes }) {
  let crc = 0;
  for (const start of [0, Math.floor(file.size / 2), file.size - sampleBytes]) {
    crc = crc32(await bytesOf(file.slice(start, start + sampleBytes)), crc);
  }
  return crc;
}

// The bytes of small files that can be read. All at once is several times as fast as one by one.
async function contentsOf(items) {
  const contents = new Map();
  try {
    const all = await bytesOf(new Blob(items.map((item) => item.file)));
    let start = 0;
    for (const item of items) contents.set(item, all.subarray(start, (start += item.size)));
    if (start === all.length) return contents;
  } catch {
    // one of them, and only reading each tells which
  }
  contents.clear();
  for (const item of items) {
    try {
      contents.set(item, await bytesOf(item.file));
    } catch {
      // left out
    }
  }
  return contents;
}

async function canBeRead(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

const UNREADABLE = "It cannot be read any more: it was changed, moved or removed. Remove it here and choose it again.";

// All files below what was dropped, with their names from there.
async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at most
    if (!some.length) return;
    await Promise.all(some.map((inner) => walk(inner, found)));
  }
}

// ---------------------------------------------------------------- whose turn it is

// On window, because Streamlit may load this module more than once.
const shared = (window[Symbol.for("seglib.uploads")] ??= { boxes: new Map(), active: 0, wait: 0, timer: 0 });

function pump() {
  if (shared.timer) return; // waiting for the server
  let idle = 0;
  for (const box of cycle()) {
    if (shared.active >= PARALLEL || idle > shared.boxes.size) return;
    const job = box.nextJob();
    idle = job ? 0 : idle + 1;
    if (!job) continue;
    shared.boxes.delete(box.key); // the others come first next time
    shared.boxes.set(box.key, box);
    run(box, job);
  }
}

function* cycle() {
  while (shared.boxes.size) yield* [...shared.boxes.values()];
}

async function run(box, { items, work }) {
  const job = { items, ends: new AbortController(), live: 0 };
  for (const item of items) item.state = "busy";
  box.jobs.add(job);
  shared.active += 1;
  job.over = (async () => {
    try {
      await work(job);
      shared.wait = 0;
      box.waiting = false;
    } catch (error) {
      box.trouble(error);
    } finally {
      for (const item of items) if (item.state === "busy") item.state = "waiting";
      box.jobs.delete(job);
      shared.active -= 1;
    }
  })();
  await job.over;
  box.paintSoon();
  pump();
}

function waitForServer() {
  if (shared.timer) return;
  shared.wait = Math.min(LONGEST_WAIT_MS, shared.wait * 2 || 500);
  shared.timer = setTimeout(goOn, shared.wait * (0.75 + Math.random() / 2));
}

function goOn() {
  clearTimeout(shared.timer);
  shared.timer = 0;
  pump();
}

window.addEventListener("online", goOn);

// ---------------------------------------------------------------- one box

class Box {
  constructor(key) {
    this.key = key;
    this.items = new Map(); // what the browser tells files apart by -> item
    this.jobs = new Set();
    this.manifest = null;
    this.told = "{}";
    this.rates = [];
    Object.assign(this, { prepared: false, paused: false, waiting: false, problem: "", leftOut: "", found: 0, looking: 0 });
    this.listed = 0; // grows with every change of the list
    this.view = new View(this);
  }

  update(data, tell) {
    Object.assign(this, { data, tell });
    if (data.gone && data.gone === this.manifest) this.empty();
    this.announce();
    this.view.describe();
    this.paint();
    pump();
  }

  // The page's value: set only where it differs, because each setting runs the page anew.
  announce() {
    let bytes = 0;
    for (const item of this.items.values()) bytes += item.size;
    const upload = this.items.size ? { manifest: this.manifest, files: this.items.size, bytes } : {};
    const told = JSON.stringify(upload);
    if (told === this.told || !this.view.root.isConnected) return;
    this.told = told;
    this.tell("upload", upload);
  }

  // -------------------------------------------------------------- the list

  async addDropped(entries) {
    const found = [];
    this.looking += 1;
    const watch = setInterval(() => this.view.say(`Looking through the folders: ${count(found.length, "file")} …`), 250);
    try {
      await Promise.all(entries.map((entry) => walk(entry, found)));
      found.sort((one, other) => (one.name < other.name ? -1 : 1));
      this.add(found);
    } catch (error) {
      this.problem = `What was dropped cannot be read: ${error.message} Use “Choose a folder”.`;
    } finally {
      clearInterval(watch);
      this.looking -= 1;
      this.paint();
    }
  }

  add(chosen) {
    const { accept, limits } = this.data;
    const fits = ({ name }) => !accept.length || accept.some((ending) => name.toLowerCase().endsWith(ending));
    const visible = chosen.filter(({ name }) => !hidden(name));
    const fitting = visible.filter(fits);
    const fresh = new Map();
    for (const { file, name } of fitting) {
      const known = `${file.size}|${file.lastModified}|${name}`;
      if (!this.items.has(known)) fresh.set(known, newItem(file, name));
    }
    const twice = fitting.length - fresh.size;
    const others = visible.length - fitting.length;
    this.leftOut = [
      others && `${count(others, "file")} left out: only ${accept.join(", ")} can be used here.`,
      twice && `${count(twice, "file")} left out that ${twice > 1 ? "are" : "is"} in the list already.`,
      !chosen.length && "There is no file in it.",
    ].filter(Boolean).join(" ");
    this.problem = "";
    if (this.items.size + fresh.size > limits.files) {
      const most = limits.files.toLocaleString("en");
      this.problem = `These would be ${count(this.items.size + fresh.size, "file")}; at most ${most} can be uploaded together. Zip them, or leave some out.`;
    } else if (fresh.size) {
      for (const [known, item] of fresh) this.items.set(known, item);
      this.changed();
      this.paused = false;
    }
    this.paint();
    pump();
  }

  changed() {
    this.replaced = this.manifest ?? this.replaced ?? sessionStorage.getItem(this.stored);
    this.manifest = null;
    this.prepared = false;
    this.listed += 1;
    this.announce();
  }

  get stored() {
    return `seglib.uploads.${this.key}`;
  }

  empty() {
    this.items.clear();
    this.rates = [];
    Object.assign(this, { manifest: null, paused: false, waiting: false, problem: "", leftOut: "", found: 0, replaced: null });
    sessionStorage.removeItem(this.stored);
    this.listed += 1;
  }

  // What is removed here is removed on the server, but for what another box holds.
  async remove(items) {
    const gone = new Set(items);
    const manifests = [this.manifest ?? this.replaced ?? sessionStorage.getItem(this.stored)];
    const under = [...this.jobs].filter((job) => !job.items.length || job.items.some((item) => gone.has(item)));
    if (gone.size === this.items.size) this.empty();
    else {
      for (const [known, item] of this.items) if (gone.has(item)) this.items.delete(known);
      this.changed();
      Object.assign(this, { found: 0, replaced: null });
    }
    this.announce();
    this.paint();
    // A large file is cut off at once; a bundle is short, and it is clear what is there once it has arrived.
    for (const job of under) if (job.items.length === 1) job.ends.abort();
    await Promise.all(under.map((job) => job.over));
    manifests.push(this.replaced); // by a list that was finished meanwhile
    const kept = new Set();
    for (const box of shared.boxes.values()) {
      if (box.manifest) continue; // the server knows what that needs
      for (const item of box.items.values()) kept.add(item.id);
    }
    const ids = items.map((item) => item.id).filter((id) => id && !kept.has(id));
    const named = manifests.filter(Boolean);
    if (ids.length || named.length) await forget(ids, named);
    pump();
  }

  // -------------------------------------------------------------- the work

  nextJob() {
    if (this.paused || !this.items.size || !this.data || this.manifest) return null;
    if (!this.prepared) return this.jobs.size ? null : { items: [], work: (job) => this.prepare(job) };
    if ([...this.jobs].some((job) => job.alone)) return null;
    const { limits } = this.data;
    const group = [];
    let bytes = 0;
    let open = 0;
    for (const item of this.items.values()) {
      if (item.state === "busy" || item.state === "failed") open += 1;
      if (item.state !== "waiting") continue;
      if (item.size > limits.smallBytes) {
        if (group.length) continue;
        return { items: [item], work: (job) => this.sendLarge(item, job) };
      }
      if (group.length && (bytes + item.size > limits.sliceBytes || group.length >= BUNDLE_FILES)) break;
      group.push(item);
      bytes += item.size;
    }
    if (group.length) return { items: group, work: (job) => this.sendSmall(group, job) };
    return open || this.jobs.size ? null : { items: [], work: (job) => this.finish(job) };
  }

  // Large files are registered before anything is sent, so that it is known early what is there and what has room.
  async prepare(job) {
    job.alone = true;
    const { limits } = this.data;
    const { signal } = job.ends;
    const large = [...this.items.values()].filter((item) => item.size > limits.smallBytes && !item.id && item.state !== "failed");
    for (let start = 0; start < large.length; start += REGISTERED_AT_ONCE) {
      const some = large.slice(start, start + REGISTERED_AT_ONCE);
      const readable = [];
      for (const item of some) {
        try {
          item.sample = await sampleOf(item.file, limits);
          readable.push(item);
        } catch {
          fail(item, UNREADABLE);
        }
      }
      await this.register(readable, signal);
    }
    let [bytes, files] = [0, 0];
    for (const item of this.items.values()) {
      if (item.state === "done" || item.state === "failed") continue;
      bytes += item.size - item.sent;
      files += 1;
    }
    await post("room", { bytes, files }, { signal });
    if (!signal.aborted) this.prepared = true;
  }

  async register(items, signal) {
    if (!items.length) return;
    const files = items.map(({ name, size, modified, sample }) => ({ name, size, modified, sample }));
    const answer = await post("register", { files }, { signal });
    items.forEach((item, index) => {
      const { id, received, error } = answer.files[index];
      if (error) return fail(item, error);
      item.id = id;
      if (!item.sent) this.found += received;
      item.sent = received;
      // Two names may be one, once cleaned.
      if (received === item.size) item.state = "done";
    });
  }

  async sendLarge(item, job) {
    const { sliceBytes } = this.data.limits;
    let surprises = 0;
    try {
      if (item.unsure) item.sent = (await send("GET", item.id, null, job.ends)).received;
      item.unsure = true;
      while (item.sent < item.size) {
        const slice = item.file.slice(item.sent, item.sent + sliceBytes);
        const sent = (bytes) => {
          job.live = Math.min(bytes, slice.size);
          this.paintSoon();
        };
        try {
          const place = `${item.id}?offset=${item.sent}`;
          const answer = await send("PUT", place, slice, { signal: job.ends.signal, sent });
          item.sent = answer.received;
          surprises = 0;
          shared.wait = 0;
          this.waiting = false;
        } catch (error) {
          if (error.status !== 409 || (surprises += 1) > 20) throw error;
          item.sent = error.answer.received;
          if (error.answer.busy) await sleep(500);
        } finally {
          job.live = 0;
        }
      }
      item.state = "done";
      item.unsure = false;
    } catch (error) {
      await this.largeTrouble(item, error);
    }
  }

  async sendSmall(group, job) {
    const { signal } = job.ends;
    const content = await contentsOf(group);
    const readable = group.filter((item) => content.has(item));
    for (const item of group) {
      if (content.has(item)) item.sample = crc32(content.get(item));
      else fail(item, UNREADABLE);
    }
    await this.register(readable, signal);
    const missing = readable.filter((item) => item.state === "busy");
    if (!missing.length) return;
    const parts = missing.flatMap((item) => {
      const { name, size, modified, sample } = item;
      const head = new TextEncoder().encode(JSON.stringify({ name, size, modified, sample }));
      const length = new DataView(new ArrayBuffer(4));
      length.setUint32(0, head.length);
      return [length, head, content.get(item)];
    });
    const total = missing.reduce((sum, item) => sum + item.size, 0);
    const sent = (bytes) => {
      job.live = Math.min(bytes, total);
      this.paintSoon();
    };
    const answer = await send("POST", "bundle", new Blob(parts), { signal, sent });
    job.live = 0;
    missing.forEach((item, index) => {
      const { error } = answer.files[index];
      if (error) return fail(item, error);
      item.sent = item.size;
      item.state = "done";
    });
  }

  async finish(job) {
    job.alone = true;
    const items = [...this.items.values()];
    const listed = this.listed;
    const ids = [...new Set(items.map((item) => item.id))];
    try {
      const answer = await post("manifests", { ids, replaces: this.replaced ?? null }, job.ends);
      if (listed !== this.listed) {
        this.replaced = answer.id;
        return;
      }
      this.manifest = answer.id;
      this.replaced = null;
      sessionStorage.setItem(this.stored, answer.id);
      this.announce();
    } catch (error) {
      if (error.status !== 409) throw error;
      // Swept, or removed from another tab.
      const missing = new Set(error.answer.missing);
      for (const item of items) if (missing.has(item.id)) Object.assign(item, { id: null, sent: 0, state: "waiting", unsure: false });
      this.prepared = false;
    }
  }

  async largeTrouble(item, error) {
    if (error instanceof Stopped) this.recheck(item);
    if (error instanceof Lost && !(await canBeRead(item.file))) return fail(item, UNREADABLE);
    if (error instanceof Refused && error.status === 404) {
      Object.assign(item, { id: null, sent: 0, unsure: false });
      this.prepared = false;
      return undefined;
    }
    if (error instanceof Refused && error.status !== 507) return fail(item, error.message);
    throw error;
  }

  // Part of the slice that was cut off has arrived; without it the bar would jump back.
  async recheck(item) {
    try {
      const { received } = await send("GET", item.id);
      if (item.state === "waiting") item.sent = received;
      this.paint();
    } catch (error) {
      if (!(error instanceof Lost || error instanceof Refused)) throw error; // it is asked again before it goes on
    }
  }

  trouble(error) {
    if (error instanceof Stopped) return;
    if (error instanceof Lost) {
      this.waiting = true;
      waitForServer();
      return;
    }
    // No room, or a fault of ours: a person has to look.
    this.paused = true;
    this.problem = error.message;
    if (!(error instanceof Refused)) console.error(error);
  }

  pause() {
    this.paused = true;
    for (const job of this.jobs) job.ends.abort();
    Object.assign(this, { waiting: false, rates: [] });
    this.paint();
  }

  resume() {
    for (const item of this.items.values()) if (item.state === "failed") Object.assign(item, { state: "waiting", problem: "" });
    Object.assign(this, { paused: false, prepared: false, problem: "", rates: [] });
    this.paint();
    goOn();
  }

  // -------------------------------------------------------------- what is shown

  paintSoon() {
    this.painting ??= setTimeout(() => this.paint(), 200);
  }

  paint() {
    clearTimeout(this.painting);
    this.painting = undefined;
    this.view.paint(this.summary());
    if (this.jobs.size) this.paintSoon(); // the rate goes down while nothing arrives
  }

  summary() {
    const sums = { files: this.items.size, bytes: 0, sent: 0, done: 0, failed: 0 };
    for (const item of this.items.values()) {
      sums.bytes += item.size;
      sums.sent += item.sent;
      sums.done += item.state === "done";
      sums.failed += item.state === "failed";
    }
    for (const job of this.jobs) sums.sent += job.live;
    sums.state = this.state(sums);
    const now = performance.now();
    this.rates = this.rates.filter(([when]) => now - when < RATE_OVER_MS);
    this.rates.push([now, sums.sent - this.found]);
    const [[before, had]] = this.rates;
    sums.rate = now - before > 500 ? Math.max(0, (sums.sent - this.found - had) / (now - before)) * 1000 : 0;
    return sums;
  }

  state({ files, done, failed }) {
    if (!files) return "empty";
    if (this.manifest) return "done";
    if (this.paused) return "paused";
    if (this.waiting) return "waiting";
    if (done + failed === files && failed && !this.jobs.size) return "stuck";
    return this.prepared ? "sending" : "preparing";
  }
}

function newItem(file, name) {
  return { file, name, size: file.size, modified: file.lastModified, id: null, sent: 0, state: "waiting", problem: "" };
}

function fail(item, problem) {
  Object.assign(item, { state: "failed", problem });
}

function hidden(name) {
  return name.split("/").some((part) => part.startsWith(".") || LEFT_BEHIND.has(part.toLowerCase()));
}

async function forget(ids, manifests) {
  const requests = manifests.map((manifest) => ({ ids: [], manifest }));
  for (let start = 0; start < ids.length; start += FORGOTTEN_AT_ONCE) {
    requests.push({ ids: ids.slice(start, start + FORGOTTEN_AT_ONCE), manifest: null });
  }
  for (const request of requests) {
    for (let attempt = 0; attempt < 5; attempt++) {
      try {
        await post("forget", request);
        break;
      } catch (error) {
        if (!(error instanceof Lost)) return; // what is left behind is swept after a week
        await sleep(1000 * 2 ** attempt);
      }
    }
  }
}

// ---------------------------------------------------------------- words

const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${["", "kB", "MB", "GB", "TB"][power]}`;
}

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

function wentOn(found, bytes) {
  if (found >= bytes) return "All of it was on the server already.";
  const percent = share(found, bytes);
  return `${percent ? `Went on at ${percent} %: ` : ""}${size(found)} were on the server already.`;
}

const share = (part, whole) => (whole ? Math.floor((100 * part) / whole) : 100);

// ---------------------------------------------------------------- on the screen

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// Setting what is there already would move focus and have it read aloud again.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

class View {
  constructor(box) {
    this.box = box;
    this.rows = new Map();
    this.root = element("div", "uploads");
    this.root.setAttribute("role", "group");
    this.label = element("div", "label");
    this.help = element("p", "help");
    this.zone = this.makeZone();
    this.area = this.makeArea();
    this.note = element("p", "note");
    this.note.setAttribute("role", "status");
    this.root.append(this.label, this.zone, this.help, this.area, this.note);
  }

  button(text, press, className = "") {
    const made = element("button", className, text);
    made.type = "button";
    made.addEventListener("click", press);
    return made;
  }

  makeZone() {
    const zone = element("div", "zone");
    this.choosers = [false, true].map((folder) => {
      const input = element("input");
      Object.assign(input, { type: "file", multiple: true, hidden: true, webkitdirectory: folder });
      input.addEventListener("change", () => {
        const chosen = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
        input.value = ""; // the same files may be chosen again
        this.box.add(chosen);
      });
      const button = this.button(folder ? "Choose a folder" : "Choose files", () => input.click());
      zone.append(input, button);
      return { input, button };
    });
    zone.append(element("span", "hint", "or drop files or folders here"));
    const over = (event) => {
      if (this.box.data.disabled || ![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      zone.classList.toggle("over", event.type !== "dragleave" && event.type !== "drop");
    };
    for (const type of ["dragenter", "dragover", "dragleave", "drop"]) zone.addEventListener(type, over);
    zone.addEventListener("drop", (event) => {
      if (this.box.data.disabled) return;
      // The list is empty once this function returns.
      this.box.addDropped([...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean));
    });
    return zone;
  }

  makeArea() {
    const area = element("div", "area");
    this.list = element("ul", "files");
    this.more = element("li", "more");
    this.total = element("span", "total");
    this.clear = this.button("Remove all", () => this.ask([...this.box.items.values()], this.clear));
    const top = element("div", "bar");
    top.append(this.total, this.clear);
    this.question = element("span", "total");
    this.yes = this.button("Remove", () => this.answer(true), "strong");
    this.no = this.button("Keep", () => this.answer(false));
    this.asking = element("div", "bar asking");
    this.asking.setAttribute("role", "alertdialog");
    this.asking.setAttribute("aria-label", "Remove uploaded files?");
    this.asking.addEventListener("keydown", (event) => event.key === "Escape" && this.answer(false));
    this.asking.append(this.question, this.yes, this.no);
    this.asking.hidden = true;
    this.top = top;
    this.meter = element("div", "meter");
    this.meter.setAttribute("role", "progressbar");
    this.meter.setAttribute("aria-valuemin", "0");
    this.meter.setAttribute("aria-valuemax", "100");
    this.meter.append(element("i"));
    this.progress = element("span", "total");
    this.hold = this.button("Pause", () => (GOING.has(this.root.dataset.state) ? this.box.pause() : this.box.resume()));
    const bottom = element("div", "bar");
    bottom.append(this.progress, this.hold);
    area.append(top, this.asking, this.list, this.meter, bottom);
    return area;
  }

  describe() {
    const { label, help, accept, disabled } = this.box.data;
    setText(this.label, label);
    setText(this.help, help);
    this.root.setAttribute("aria-label", label);
    this.list.setAttribute("aria-label", `${label}: files`);
    this.meter.setAttribute("aria-label", `${label}: progress`);
    this.clear.setAttribute("aria-label", `${label}: remove all`);
    // A file dialog knows the last ending only.
    this.choosers[0].input.accept = accept.map((ending) => ending.slice(ending.lastIndexOf("."))).join(",");
    for (const { button } of this.choosers) {
      button.disabled = disabled;
      button.setAttribute("aria-label", `${label}: ${button.textContent.toLowerCase()}`);
    }
    this.clear.disabled = disabled;
    for (const { cross } of this.rows.values()) cross.disabled = disabled;
  }

  // Asks only where something would have to be uploaded again.
  ask(items, from) {
    const bytes = items.reduce((sum, item) => sum + item.sent, 0);
    this.asked = { items, from };
    if (!bytes) return this.answer(true);
    const what = items.length === 1 ? items[0].name : count(items.length, "file");
    this.question.textContent = `Remove ${what}? ${size(bytes)} were uploaded.`;
    this.question.title = this.question.textContent;
    this.asking.hidden = false;
    this.top.hidden = true;
    this.no.focus();
  }

  answer(yes) {
    const { items, from } = this.asked;
    this.asking.hidden = true;
    this.top.hidden = false;
    if (yes) this.box.remove(items);
    if (from.isConnected && this.box.items.size) from.focus();
    else this.choosers[0].button.focus();
  }

  say(text) {
    setText(this.note, text);
  }

  paint(sums) {
    this.root.dataset.state = sums.state;
    this.root.classList.toggle("bad", Boolean(this.box.problem) || sums.failed > 0);
    this.area.hidden = !sums.files;
    if (!sums.files && !this.asking.hidden) [this.asking.hidden, this.top.hidden] = [true, false];
    setText(this.total, `${count(sums.files, "file")} · ${size(sums.bytes)}`);
    this.paintRows(sums);
    const percent = sums.state === "done" ? 100 : Math.min(99, share(sums.sent, sums.bytes));
    this.meter.setAttribute("aria-valuenow", String(percent));
    this.meter.firstChild.style.width = `${percent}%`;
    setText(this.progress, this.progressText(sums, percent));
    setText(this.hold, GOING.has(sums.state) ? "Pause" : sums.state === "stuck" ? "Try again" : "Continue");
    this.hold.setAttribute("aria-label", `${this.box.data?.label ?? ""}: ${this.hold.textContent.toLowerCase()}`);
    this.hold.style.visibility = sums.state === "done" ? "hidden" : "visible"; // keeps its place
    if (!this.box.looking) this.say(this.noteText(sums));
  }

  progressText(sums, percent) {
    if (sums.state === "done") return "Everything is on the server.";
    const parts = [`${percent} %`, `${size(sums.sent)} of ${size(sums.bytes)}`];
    if (sums.files > 1) parts.push(`${sums.done.toLocaleString("en")} of ${count(sums.files, "file")}`);
    if (sums.state === "paused") parts.push("paused");
    if (sums.state === "sending" && sums.rate > 0) {
      parts.push(`${size(Math.round(sums.rate))}/s`, `${duration((sums.bytes - sums.sent) / sums.rate)} left`);
    }
    return parts.join(" · ");
  }

  noteText({ state, bytes, failed }) {
    const { box } = this;
    const parts = [];
    if (box.problem) parts.push(box.problem);
    if (state === "waiting") parts.push("Waiting for the server … The upload goes on by itself.");
    if (failed) parts.push(`${count(failed, "file")} could not be uploaded: remove ${failed > 1 ? "them" : "it"}, or try again.`);
    if (box.found) parts.push(wentOn(box.found, bytes));
    if (box.leftOut) parts.push(box.leftOut);
    return parts.join(" ");
  }

  paintRows({ failed }) {
    const { items, listed, data } = this.box;
    if (this.painted !== `${listed} ${failed}`) {
      this.painted = `${listed} ${failed}`;
      const bad = failed ? [...items.values()].filter((item) => item.state === "failed").slice(0, ROWS / 2) : [];
      const shown = new Set(bad);
      for (const item of items.values()) {
        if (shown.size >= ROWS) break;
        shown.add(item);
      }
      for (const [item, row] of this.rows) {
        if (shown.has(item)) continue;
        row.line.remove();
        this.rows.delete(item);
      }
      let before = null;
      for (const item of shown) {
        const { line } = this.rows.get(item) ?? this.addRow(item);
        const place = before ? before.nextSibling : this.list.firstChild;
        if (place !== line) this.list.insertBefore(line, place);
        before = line;
      }
      const more = items.size - shown.size;
      setText(this.more, `and ${count(more, "more file")}`);
      if (more) this.list.append(this.more);
      else this.more.remove();
      for (const { cross } of this.rows.values()) cross.disabled = data?.disabled ?? false;
    }
    for (const [item, { status, problem }] of this.rows) {
      const live = [...this.box.jobs].find((job) => job.items.length === 1 && job.items[0] === item)?.live ?? 0;
      const partly = item.sent + live > 0 ? `${share(item.sent + live, item.size)} % of ` : "";
      setText(status, item.state === "done" ? `${size(item.size)} ✓` : partly + size(item.size));
      setText(problem, item.problem);
    }
  }

  addRow(item) {
    const line = element("li");
    const name = element("span", "name", item.name);
    name.title = item.name;
    const status = element("span", "status");
    const cross = this.button("×", () => this.ask([item], cross), "cross");
    cross.setAttribute("aria-label", `Remove ${item.name}`);
    const problem = element("span", "problem");
    line.append(name, status, cross, problem);
    const row = { line, status, problem, cross };
    this.rows.set(item, row);
    return row;
  }
}

export default function ({ data, parentElement, setStateValue }) {
  let box = shared.boxes.get(data.key);
  if (!box) {
    box = new Box(data.key);
    shared.boxes.set(data.key, box);
  }
  if (box.view.root.parentNode !== parentElement) {
    parentElement.append(box.view.root);
    box.told = JSON.stringify(data.told); // the page may have forgotten what it was told
  }
  box.update(data, setStateValue);
  // A box that holds nothing is not kept for a key that may never come back.
  return () =>
    setTimeout(() => {
      if (!box.view.root.isConnected && !box.items.size && shared.boxes.get(data.key) === box) shared.boxes.delete(data.key);
    });
}
