// The page: follows the server's events, and shows them. Everything from data is set as text, never as markup.

import { Chart, moment, shape } from "./chart.js";

const KEY = "messctl-key";
const SILENCE_MS = 30_000; // the server sends something every ten seconds
const find = (id) => document.getElementById(id);
const views = new Map();
let following = new AbortController();

// ---- words and numbers

const count = (value) => value.toLocaleString("en");
const share = (value) => `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

function amount(value, unit) {
  const small = value !== 0 && Math.abs(value) < 1e-6;
  const text = small ? value.toExponential(2) : Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 4 });
  return unit ? `${text} ${unit}` : text;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.9995) return `${Math.max(1, Math.round(1000 * value))} ms`;
  return value < 99.5 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`;
}

// ---- elements

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Let a parent have one child per item, in this order. A child stays as long as its item does, so nothing loses focus.
function keep(parent, items, keyOf, build, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = new Map(items.map((item) => [String(keyOf(item)), item]));
  for (const [key, child] of known) if (!wanted.has(key)) child.remove();
  let after = null;
  for (const [key, item] of wanted) {
    const child = known.get(key) ?? build(item);
    child.dataset.key = key;
    const place = after ? after.nextElementSibling : parent.firstElementChild;
    if (child !== place) parent.insertBefore(child, place);
    update(child, item);
    after = child;
  }
}

function problem(text) {
  write(find("notice"), text);
  find("notice").hidden = !text;
}

function connection(state, text) {
  find("connection").dataset.state = state;
  write(find("connection"), text);
}

// ---- a tenant

class View {
  constructor() {
    this.root = find("tenant").content.cloneNode(true).firstElementChild;
    this.parts = {};
    for (const part of this.root.querySelectorAll("[data-is]")) this.parts[part.dataset.is] = part;
    const empty = "As soon as answers are judged, a line begins here.";
    this.promise = new Chart(this.parts["promise-chart"], "Good answers over time", [
      { key: "attained", name: "attained", digits: 4 },
      { key: "alpha", name: "promised α", digits: 2, flat: true },
      { key: "certificate", name: "certain", digits: 4 },
    ], { empty, low: -1, high: 1, least: 0.05 });
    this.debt = new Chart(this.parts["debt-chart"], "Debt over time", [
      { key: "queue", name: "debt Q", digits: 2, area: true },
    ], { empty, fromZero: true, least: 1 });
  }

  show(tenant, board, alone) {
    this.root.classList.toggle("alone", alone);
    this.root.dataset.tenant = tenant.name;
    this.title(tenant);
    this.tiles(tenant);
    const curve = tenant.logged ? tenant.history : { at: [], judged: [], attained: [], certificate: [], queue: [] };
    this.promise.show({ ...curve, alpha: curve.at.map(() => tenant.alpha) });
    this.debt.show(curve);
    this.models(tenant);
    this.bars(tenant);
    this.outages(tenant, board.at);
    this.latest(tenant, board.prompts);
  }

  title(tenant) {
    const words = { true: "promise kept", false: "below the promise", null: "no feedback yet" };
    write(this.parts.name, tenant.name);
    write(this.parts.verdict, words[tenant.sla_met]);
    this.parts.verdict.dataset.met = tenant.sla_met;
    const margin = tenant.margin ? `, aims ${tenant.margin} higher` : "";
    write(this.parts.promise, `α = ${tenant.alpha}${margin}, policy ${tenant.policy}`);
  }

  tiles(tenant) {
    const { standing, interval } = tenant, parts = this.parts;
    const judged = standing.judged > 0;
    write(parts.attained, judged ? standing.attained.toFixed(4) : "–");
    const over = judged ? `over ${plural(standing.judged, "judged answer")}` : "no answer is judged yet";
    write(parts["attained-note"], interval ? `${over}; 95 %: ${interval[0].toFixed(2)} to ${interval[1].toFixed(2)}` : over);
    write(parts.certificate, judged ? standing.certificate.toFixed(4) : "–");
    write(parts["certificate-note"], "at least this share was good, for certain");
    write(parts.debt, standing.queue.toFixed(2));
    write(parts["debt-note"], "at most this many good answers are missing");
    const ratio = tenant.cost_vs_costliest, total = tenant.cost_total;
    write(parts.cost, ratio === null ? "–" : `${amount(ratio)} ×`);
    write(parts["cost-note"], ratio === null ? "no cost is known yet" : `of ${tenant.costliest} alone; ${amount(total, tenant.cost_unit)} spent`);
    write(parts.requests, count(tenant.answered + tenant.unanswered));
    const notes = [`${count(tenant.pending)} not judged`];
    if (tenant.explored) notes.push(`${count(tenant.explored)} explored`);
    if (tenant.forced) notes.push(`${count(tenant.forced)} forced`);
    if (tenant.unanswered) notes.push(`${count(tenant.unanswered)} unanswered`);
    write(parts["requests-note"], notes.join(", "));
  }

  models(tenant) {
    const names = [...new Set([...tenant.models, ...Object.keys(tenant.served)])];
    const build = (name) => make("tr", {},
      make("th", { scope: "row" }, name),
      make("td", {}, make("div", { class: "share" }, make("div", { class: "bar" }, make("i")), make("span"))),
      make("td", { class: "number" }), make("td", { class: "number" }));
    keep(this.parts.models, names, (name) => name, build, (row, name) => {
      const part = tenant.model_share[name] ?? 0, latency = tenant.latency[name];
      row.querySelector("i").style.width = `${100 * part}%`;
      row.querySelector(".share").title = plural(tenant.served[name] ?? 0, "answer");
      write(row.querySelector("span"), share(part));
      write(row.cells[2], seconds(latency?.median_s));
      write(row.cells[3], seconds(latency?.p95_s));
    });
    write(this.parts["models-note"], "Shares are of all answers; times are of the latest 1,000.");
  }

  bars(tenant) {
    const ratio = tenant.cost_vs_costliest, rows = [];
    if (ratio !== null) {
      const alone = tenant.cost_total / ratio, most = Math.max(alone, tenant.cost_total);
      rows.push({ key: "spent", name: "spent", value: tenant.cost_total, part: tenant.cost_total / most });
      rows.push({ key: "alone", name: `${tenant.costliest} alone`, value: alone, part: alone / most });
    }
    const build = (row) => make("div", { class: row.key }, make("p", {}, make("span"), make("b")), make("div", { class: "bar" }, make("i")));
    keep(this.parts.bars, rows, (row) => row.key, build, (made, row) => {
      write(made.querySelector("span"), row.name);
      write(made.querySelector("b"), amount(row.value, tenant.cost_unit));
      made.querySelector("i").style.width = `${100 * row.part}%`;
    });
    const note = ratio === null ? "No cost is known yet." : "The second one is predicted: the same tokens, all by this model.";
    write(this.parts["bars-note"], note);
  }

  outages(tenant, now) {
    const lines = Object.entries(tenant.lost).map(([name, lost]) => {
      const left = lost.again_at === null ? null : lost.again_at - now;
      const when = left === null ? "in use again" : left > 0 ? `left alone for ${seconds(left)} more` : "tried again by the next request";
      return { name, out: left !== null, when, text: `${plural(lost.attempts, "lost attempt")}, ${moment(lost.at)}: ${lost.reason}` };
    });
    for (const [name, refused] of Object.entries(tenant.refused)) {
      lines.push({ name, out: false, when: "refused", text: `${plural(refused.prompts, "prompt")}, ${moment(refused.at)}: ${refused.reason}` });
    }
    if (!lines.length) lines.push({ name: "", out: false, when: "No model has failed.", text: "" });
    const build = () => make("li", {}, make("b"), " ", make("span"), make("p", { class: "note" }));
    keep(this.parts.outages, lines, (line) => `${line.name} ${line.when === "refused"}`, build, (made, line) => {
      const [name, when, text] = made.children;
      write(name, line.name);
      write(when, line.when);
      when.className = line.out ? "out" : "";
      write(text, line.text);
    });
  }

  latest(tenant, prompts) {
    this.parts.latest.parentElement.dataset.prompts = prompts;
    const base = `${location.origin}${location.pathname.replace(/\/$/, "")}/v1`;
    let note = prompts ? "" : "Prompts are shown if the server is started with --show-prompts.";
    if (!tenant.requests.length) note = `No request yet. Let a client ask ${base} for the model auto.`;
    if (!tenant.logged) note = "With --no-log nothing is stored, so no request is shown.";
    write(this.parts["latest-note"], note);
    this.parts.latest.parentElement.hidden = !tenant.requests.length;
    keep(this.parts.latest, tenant.requests, (request) => request.id, () => this.row(), showRequest);
  }

  row() {
    const good = make("div", { class: "thumbs" }, thumb("up", "good", 1), thumb("down", "bad", 0), make("span"));
    return make("tr", {}, make("td", { class: "when" }), make("td", { class: "model" }, make("span"), " ", make("span", { class: "tag" })),
      make("td", { class: "said" }), make("td", { class: "number cost" }), make("td", { class: "number took" }), make("td", { class: "good" }, good));
  }
}

// ---- the latest requests

function thumb(kind, word, value) {
  const picture = shape("svg", { "aria-hidden": "true", focusable: "false" });
  picture.append(shape("use", { href: "#thumb" }));
  const button = make("button", { type: "button", class: `thumb ${kind}`, "data-value": value, "data-word": word }, picture);
  button.addEventListener("click", () => judge(button, value));
  return button;
}

function showRequest(row, request) {
  const [model, tag] = row.querySelector(".model").children;
  const tags = [request.explored && "explored", request.forced && "forced", request.lost.length && `after ${request.lost.join(", ")} failed`];
  write(row.querySelector(".when"), moment(request.at));
  write(model, request.model);
  write(tag, tags.filter(Boolean).join(", "));
  write(row.querySelector(".cost"), request.answered ? amount(request.cost, request.unit) : "–");
  write(row.querySelector(".took"), seconds(request.latency_s));
  if (request.prompt !== undefined) showSaid(row.querySelector(".said"), request);
  showThumbs(row, request);
}

// The prompt, which opens to the answer as soon as there is one.
function showSaid(cell, request) {
  if (cell.dataset.answered === String(request.answered)) return;
  cell.dataset.answered = request.answered;
  const prompt = request.prompt ?? "(no text)", answer = make("p", { class: "answer" }, request.answer ?? "(no text)");
  cell.replaceChildren(request.answered ? make("details", {}, make("summary", {}, make("span", {}, prompt)), answer) : make("p", {}, prompt));
}

function showThumbs(row, request) {
  const between = request.satisfied !== null && request.satisfied !== 0 && request.satisfied !== 1;
  for (const button of row.querySelectorAll(".thumb")) {
    button.hidden = !request.answered;
    button.setAttribute("aria-pressed", String(request.satisfied === Number(button.dataset.value)));
    button.setAttribute("aria-label", `${button.dataset.word}: the answer of ${request.model} at ${moment(request.at)}`);
  }
  write(row.querySelector(".thumbs span"), !request.answered ? "no answer" : between ? request.satisfied.toFixed(2) : "");
}

async function judge(button, value) {
  const row = button.closest("tr");
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    const body = JSON.stringify({ id: row.dataset.key, value: Boolean(value), source: "page" });
    const reply = await fetch("v1/feedback", { method: "POST", body, headers: { "content-type": "application/json", ...authorization() } });
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    for (const each of row.querySelectorAll(".thumb")) each.setAttribute("aria-pressed", String(each === button));
    problem("");
  } catch (error) {
    problem(`The judgement was not stored: ${error.message}`);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

// ---- following the server

function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { authorization: `Bearer ${key}` } : {};
}

function show(board) {
  const waiting = Object.values(board.waiting).reduce((sum, each) => sum + each, 0);
  write(find("busy"), board.running || waiting ? `${plural(board.running, "request")} being answered` : "idle");
  const alone = board.tenants.length === 1;
  keep(find("tenants"), board.tenants, (tenant) => tenant.name, (tenant) => {
    const view = new View();
    views.set(tenant.name, view);
    return view.root;
  }, (_, tenant) => views.get(tenant.name).show(tenant, board, alone));
  document.title = alone && board.tenants[0].standing.judged ? `${board.tenants[0].standing.attained.toFixed(3)} messctl` : "messctl";
}

function take(event) {
  const kind = /^event: (.*)$/m.exec(event)?.[1], data = /^data: (.*)$/m.exec(event)?.[1];
  if (!data) return;
  if (kind === "error") throw new Error(JSON.parse(data).error.message);
  show(JSON.parse(data));
  connection("live", "live");
}

function askForKey(reply) {
  const tried = sessionStorage.getItem(KEY) !== null;
  sessionStorage.removeItem(KEY);
  find("tenants").replaceChildren();
  views.clear();
  find("key-form").hidden = false;
  find("forget").hidden = true;
  write(find("busy"), "");
  write(find("key-problem"), tried ? "The server does not know this key." : "");
  connection("waiting", reply.status === 401 || reply.status === 403 ? "waiting for a key" : "");
  find("key").focus();
}

// Follow until the stream ends. Returns whether to come again.
async function follow() {
  following = new AbortController();
  const signal = following.signal;
  let watchdog = setTimeout(() => following.abort(), SILENCE_MS);
  try {
    const reply = await fetch("v1/status/events", { headers: authorization(), cache: "no-store", signal });
    if (reply.status === 401 || reply.status === 403) {
      askForKey(reply);
      return false;
    }
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    find("key-form").hidden = true;
    find("forget").hidden = sessionStorage.getItem(KEY) === null;
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => following.abort(), SILENCE_MS);
      const events = (text + piece.value).split("\n\n");
      text = events.pop();
      events.forEach(take);
    }
    return true;
  } finally {
    clearTimeout(watchdog);
  }
}

// Wait until the tab is seen. Browsers open few connections to a server, so tabs in the background hold none.
async function seen() {
  while (document.hidden) {
    connection("waiting", "paused in the background");
    await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

async function forever() {
  for (let pause = 1; ; pause = Math.min(10, 2 * pause)) {
    let again = true;
    await seen();
    try {
      again = await follow();
      pause = 0.5;
      connection("broken", "the server ended the connection; trying again");
    } catch (error) {
      connection("broken", error instanceof TypeError || error.name === "AbortError" ? "no connection; trying again" : `${error.message}; trying again`);
    }
    if (document.hidden) {
      pause = 0.5;
      continue;
    }
    if (!again) {
      connection("waiting", "waiting for a key");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
  }
}

document.addEventListener("visibilitychange", () => document.hidden && following.abort());
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, find("key").value.trim());
  find("key").value = "";
  forever();
});
find("forget").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});
forever();
