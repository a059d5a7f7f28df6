// Curves of runs that grow in place. The browser asks the server for points it does not have yet and hands them to
// Plotly, so a page with growing curves is never rerun for them, and zoom and hidden curves stay as they are.
//
// When a run reaches a milestone the page does not show yet, the page is asked to draw itself anew.
//
// data: { key, height, live: ms between two questions or 0, milestones: { run: what the page shows }, charts: [{ title, x: "step"|"epoch", traces:
// [{ run, metric, label, colour, faint }] }] }. For tests each chart's element carries data-points.

const PLOTLY = "/api/assets/plotly.min.js";
const MOST_POINTS = 1500;
const OPTIONS = { displaylogo: false, responsive: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

let loading;
function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = PLOTLY;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("the drawing library could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

// At most about MOST_POINTS: every second, fourth, eighth … one by index, so that they do not jump as the curve
// grows, and always the newest.
function thin({ step, epoch, value }, x) {
  const every = 2 ** Math.max(0, Math.ceil(Math.log2(step.length / MOST_POINTS)));
  const kept = [];
  for (let index = 0; index < step.length; index += every) kept.push(index);
  if (step.length && kept.at(-1) !== step.length - 1) kept.push(step.length - 1);
  const along = x === "epoch" ? epoch : step;
  const other = x === "epoch" ? step : epoch;
  return { x: kept.map((i) => along[i]), other: kept.map((i) => other[i]), y: kept.map((i) => value[i]) };
}

class Curves {
  constructor(announce) {
    this.announce = announce;
    this.announced = "";
    this.root = document.createElement("div");
    this.root.className = "seglib-curves";
    this.problem = document.createElement("p");
    this.problem.setAttribute("role", "status");
    this.runs = new Map(); // id -> { attempt, cursor, series: { metric: { step, epoch, value } }, over }
    this.elements = [];
    this.drawn = new WeakMap(); // element -> what it shows
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.root);
  }

  update(data) {
    const changed = JSON.stringify(data) !== JSON.stringify(this.data);
    this.data = data;
    this.announced = "";
    if (!changed) {
      this.draw(); // the theme may be another
      return;
    }
    const wanted = new Set(data.charts.flatMap((chart) => chart.traces.map((trace) => trace.run)));
    for (const run of this.runs.keys()) if (!wanted.has(run)) this.runs.delete(run);
    for (const run of wanted) if (!this.runs.has(run)) this.runs.set(run, { attempt: -1, cursor: 0, series: {} });
    for (const run of this.runs.values()) run.over = false;
    while (this.elements.length > data.charts.length) this.elements.pop().remove();
    data.charts.forEach((chart, index) => {
      this.elements[index] ??= document.createElement("div");
      this.elements[index].setAttribute("role", "img");
      this.elements[index].setAttribute("aria-label", chart.title);
    });
    this.root.replaceChildren(...this.elements, this.problem);
    this.root.style.setProperty("--charts", String(data.charts.length));
    this.ask();
  }

  async ask() {
    clearTimeout(this.timer);
    const asked = (this.asked = {}); // an older answer must not start a second rhythm
    try {
      const answers = await Promise.all([...this.runs].filter(([, run]) => !run.over).map((one) => this.askOne(...one)));
      this.problem.textContent = "";
      if (answers.some(Boolean)) await this.draw();
    } catch (error) {
      this.problem.textContent = `The curves cannot be read just now: ${error.message}.`;
    }
    if (asked !== this.asked || !this.data.live || [...this.runs.values()].every((run) => run.over)) return;
    // A tab nobody looks at asks seldom.
    this.timer = setTimeout(() => this.ask(), document.hidden ? 10_000 : this.data.live);
  }

  // Resolves to whether anything is new.
  async askOne(id, run) {
    const answer = await fetch(`/api/metrics/${id}?after=${run.cursor}&attempt=${run.attempt}`);
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const news = await answer.json();
    if (news.fresh) run.series = {};
    for (const [metric, points] of Object.entries(news.series)) {
      const known = (run.series[metric] ??= { step: [], epoch: [], value: [] });
      for (const part of ["step", "epoch", "value"]) known[part].push(...points[part]);
    }
    const shown = this.data.milestones[id];
    if (shown && shown !== news.milestone && this.announced !== news.milestone) {
      this.announced = news.milestone;
      this.announce("milestone", news.milestone);
    }
    const grown = news.cursor !== run.cursor || news.fresh;
    Object.assign(run, { attempt: news.attempt, cursor: news.cursor, over: news.over });
    return grown;
  }

  async draw() {
    if (!this.data || !this.root.isConnected) return;
    const plotly = await loadPlotly();
    const style = getComputedStyle(this.root);
    const text = style.getPropertyValue("--st-text-color") || style.color;
    const line = style.getPropertyValue("--st-border-color") || "#8884";
    const ground = style.getPropertyValue("--st-background-color") || "#fff";
    this.data.charts.forEach((chart, index) => {
      const element = this.elements[index];
      const totals = chart.traces.map(({ run, metric }) => this.runs.get(run)?.series[metric]?.step.length ?? 0);
      const drawn = JSON.stringify([this.data, totals, text, ground, element.clientWidth]);
      if (this.drawn.get(element) === drawn) return; // drawing costs; most ticks are news for one chart only
      this.drawn.set(element, drawn);
      const traces = chart.traces.map((trace) => this.trace(trace, chart.x));
      const few = traces.every((trace) => (trace.x.at(-1) ?? 0) <= 12); // no ticks between whole numbers
      const axis = { gridcolor: line, zerolinecolor: line, automargin: true };
      const layout = {
        title: { text: chart.title, font: { size: 15 }, x: 0, xref: "paper", xanchor: "left", yref: "container", y: 0.98, yanchor: "top" },
        height: this.data.height,
        width: element.clientWidth || undefined,
        margin: { l: 45, r: 10, t: 80, b: 40 },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: style.fontFamily, color: text, size: 12 },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: text },
        hoverlabel: { bgcolor: ground, font: { color: text } },
        hovermode: "x unified",
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
        uirevision: this.data.key, // zoom and hidden curves stay while this does
        xaxis: { ...axis, title: { text: chart.x }, rangemode: "tozero", ...(few && { dtick: 1 }) },
        yaxis: axis,
      };
      plotly.react(element, traces, layout, OPTIONS);
      element.dataset.points = String(totals.reduce((sum, total) => sum + total, 0));
    });
  }

  trace({ run, metric, label, colour, faint }, x) {
    const points = this.runs.get(run)?.series[metric] ?? { step: [], epoch: [], value: [] };
    const thinned = thin(points, x);
    const other = x === "epoch" ? "step" : "epoch";
    return {
      type: "scatter",
      x: thinned.x,
      y: thinned.y,
      customdata: thinned.other,
      name: label,
      mode: faint || thinned.x.length > 60 ? "lines" : "lines+markers",
      line: { color: colour, width: faint ? 1 : 2 },
      opacity: faint ? 0.4 : 1,
      connectgaps: false,
      showlegend: thinned.x.length > 0,
      hovertemplate: `%{y:.4f} (${other} %{customdata})`,
    };
  }

  close() {
    clearTimeout(this.timer);
    this.asked = null;
    this.sizes.disconnect();
    for (const element of this.elements) window.Plotly?.purge(element);
  }
}

const all = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  let curves = all.get(parentElement);
  if (!curves?.root.isConnected) {
    curves?.close();
    curves = new Curves(setTriggerValue);
    parentElement.append(curves.root);
    all.set(parentElement, curves);
  }
  curves.update(data);
  // Streamlit also calls this for a call that a later one has overtaken: only curves off the page are closed.
  return () => setTimeout(() => curves.root.isConnected || curves.close());
}
