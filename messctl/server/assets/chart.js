// A line chart in SVG: drawn again when its data or its size changes, read with a pointer or with arrow keys.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 44, RIGHT = 10, TOP = 8, BOTTOM = 22;
const UNSTEADY = 30; // after so few answers a mean says little, and does not decide what range is shown
let charts = 0;

export function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// About `count` round numbers from low to high.
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// A time as a reader says it: without the date if it is today.
export function moment(at) {
  const date = new Date(at * 1000), today = new Date().toDateString() === date.toDateString();
  const day = today ? {} : { day: "numeric", month: "short" };
  return date.toLocaleString("en-GB", { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

function clock(seconds, span) {
  const options = span > 2 * 86400 ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" };
  if (span < 300) options.second = "2-digit";
  return new Date(seconds * 1000).toLocaleString("en-GB", options);
}

// A chart in `host`. `lines` are {key, name, digits}; data has a list for each key, and the list `at` of times.
export class Chart {
  constructor(host, title, lines, options) {
    this.lines = lines;
    this.options = options;
    this.chosen = null;
    this.clip = `clip-${++charts}`;
    this.data = { at: [] };
    this.legend = element("div", "legend");
    this.readout = element("p", "note");
    this.plot = element("div", "plot");
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "group");
    this.svg = shape("svg", { "aria-hidden": "true", focusable: "false" });
    this.empty = element("p", "empty", options.empty);
    this.plot.append(this.svg, this.empty);
    host.append(element("h3", "", title), this.legend, this.plot, this.readout);
    this.title = title;
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.choose(null));
    this.plot.addEventListener("blur", () => this.choose(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  show(data) {
    const same = data.at.length === this.data.at.length && data.at.at(-1) === this.data.at.at(-1);
    if (same && this.drawn === JSON.stringify(data)) return;
    this.drawn = JSON.stringify(data);
    this.data = data;
    if (this.chosen !== null) this.chosen = Math.min(this.chosen, data.at.length - 1);
    this.draw();
  }

  choose(index) {
    if (index === this.chosen) return;
    this.chosen = index;
    this.draw();
  }

  key(event) {
    const last = this.data.at.length - 1, now = this.chosen ?? last + 1;
    const step = event.shiftKey ? Math.max(1, Math.round(last / 20)) : 1;
    const to = { ArrowLeft: now - step, ArrowRight: now + step, Home: 0, End: last }[event.key];
    if (last < 0 || (to === undefined && event.key !== "Escape")) return;
    event.preventDefault();
    this.choose(to === undefined ? null : Math.max(0, Math.min(last, to)));
  }

  point(event) {
    const { at } = this.data;
    if (!at.length || !this.scale) return;
    const wanted = event.clientX - this.plot.getBoundingClientRect().left;
    let best = 0;
    at.forEach((_, index) => {
      if (Math.abs(this.scale.x(index) - wanted) < Math.abs(this.scale.x(best) - wanted)) best = index;
    });
    this.choose(best);
  }

  // The lowest and the highest value shown. What lies outside is cut off.
  range() {
    const { judged } = this.data, begin = this.options.fromZero ? 0 : Math.min(UNSTEADY, judged.at(-1) / 2);
    const first = judged.findIndex((each) => each >= begin);
    const values = this.lines.flatMap((line) => this.data[line.key].slice(first));
    let low = Math.min(...values), high = Math.max(...values);
    const room = Math.max((high - low) * 0.08, this.options.least / 2);
    low = Math.max(this.options.low ?? -Infinity, low - room);
    high = Math.min(this.options.high ?? Infinity, high + room);
    return this.options.fromZero ? [0, Math.max(high, this.options.least)] : [low, high];
  }

  draw() {
    const { at } = this.data, width = this.plot.clientWidth, height = this.plot.clientHeight;
    this.svg.replaceChildren();
    this.empty.hidden = at.length > 0;
    this.tell();
    if (!at.length || width < 120) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const [low, high] = this.range(), first = at[0], span = at.at(-1) - first;
    const x = (index) => LEFT + (width - LEFT - RIGHT) * (span > 0 ? (at[index] - first) / span : 1);
    const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - (value - low) / (high - low));
    this.scale = { x, y };
    this.axes(width, height, low, high, first, span);
    const clip = shape("clipPath", { id: this.clip });
    clip.append(shape("rect", { x: LEFT - 2, y: TOP - 2, width: width - LEFT - RIGHT + 4, height: height - TOP - BOTTOM + 4 }));
    this.svg.append(clip);
    const lines = [...this.lines].reverse(); // the first one lies above the others
    for (const line of lines) this.curve(line, x, y, low);
    const shown = this.chosen ?? at.length - 1;
    if (this.chosen !== null) {
      this.svg.append(shape("line", { class: "at", x1: x(shown), x2: x(shown), y1: TOP, y2: height - BOTTOM }));
    }
    for (const line of lines) {
      if (this.data[line.key][shown] < low || this.data[line.key][shown] > high) continue;
      this.svg.append(shape("circle", { class: `mark ${line.key}`, cx: x(shown), cy: y(this.data[line.key][shown]), r: 4.5 }));
    }
  }

  axes(width, height, low, high, first, span) {
    const { found, digits } = ticks(low, high, 4);
    for (const value of found) {
      const at = this.scale.y(value);
      this.svg.append(shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      this.svg.append(shape("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, value.toFixed(digits)));
    }
    const labels = span > 0 ? (width > 420 ? 4 : 2) : 0;
    for (let index = 0; index <= labels; index++) {
      const share = labels ? index / labels : 1, anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
      const place = { x: LEFT + (width - LEFT - RIGHT) * share, y: height - 5, "text-anchor": anchor };
      this.svg.append(shape("text", place, clock(first + span * share, span)));
    }
  }

  curve(line, x, y, low) {
    const values = this.data[line.key];
    let path = values.map((value, index) => `${index ? `H${x(index).toFixed(1)}V` : `M${x(0).toFixed(1)} `}${y(value).toFixed(1)}`).join("");
    if (line.flat) path = `M${LEFT} ${y(values[0]).toFixed(1)}L${x(values.length - 1).toFixed(1)} ${y(values[0]).toFixed(1)}`;
    if (line.area) {
      const floor = y(low).toFixed(1);
      const under = `${path}L${x(values.length - 1).toFixed(1)} ${floor}L${x(0).toFixed(1)} ${floor}Z`;
      this.svg.append(shape("path", { class: "area", d: under }));
    }
    this.svg.append(shape("path", { class: `curve ${line.key}`, d: path, "clip-path": `url(#${this.clip})` }));
  }

  // Say in words what is shown: the latest values, or those of the chosen time.
  tell() {
    const { at, judged } = this.data, index = this.chosen ?? at.length - 1;
    const items = this.lines.map((line) => {
      const item = element("span", "", ""), value = at.length ? this.data[line.key][index].toFixed(line.digits) : "–";
      const mark = shape("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" });
      mark.append(shape("line", { class: `curve ${line.key}`, x1: 0, x2: 26, y1: 5, y2: 5 }));
      item.append(mark, `${line.name} `, element("b", "", value));
      return item;
    });
    this.legend.replaceChildren(...items);
    const when = at.length ? moment(at[index]) : "";
    this.readout.setAttribute("aria-live", this.chosen === null ? "off" : "polite");
    this.readout.textContent = at.length ? `${when}, after ${judged[index].toLocaleString("en")} judged answers` : "";
    const words = this.lines.map((line, each) => items[each].textContent).join(", ");
    this.plot.setAttribute("aria-label", at.length ? `${this.title}: ${words}. Arrow keys go through time.` : this.title);
  }
}
