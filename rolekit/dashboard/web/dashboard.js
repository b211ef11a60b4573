"use strict";
/* One stream tells how the app is; everything else is asked for when its view is open.
   Nothing that came from a message is ever put into the page other than as text. */

const $ = id => document.getElementById(id);
const state = {about: null, now: null, role: "", failed: 0, missing: ""};
const SVG = "http://www.w3.org/2000/svg";

function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children.filter(child => child !== undefined && child !== null));
  return made;
}
function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const figure = (n, digits = 0) => n == null ? "–" : n.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
const compact = n => n < 10000 ? figure(n) : n.toLocaleString("en", {notation: "compact", maximumFractionDigits: 1});
const rate = n => n == null ? "–" : figure(n, n > 0 && n < 10 ? 1 : 0);
function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 0.0009995) return figure(seconds * 1e6) + " µs";
  if (seconds < 1) return figure(seconds * 1000, seconds < 0.1 ? 1 : 0) + " ms";
  if (seconds < 120) return figure(seconds, seconds < 10 ? 1 : 0) + " s";
  return seconds < 7200 ? figure(seconds / 60) + " min" : seconds < 172800 ? figure(seconds / 3600, 1) + " h" : figure(seconds / 86400) + " d";
}
const bytes = n => n ? (n < 1 << 30 ? figure(n / (1 << 20), n < 10 << 20 ? 1 : 0) + " MiB" : figure(n / (1 << 30), 1) + " GiB") : "–";
const cores = n => n == null ? "–" : figure(100 * n, n < 0.1 ? 1 : 0) + " %";
const clock = at => new Date(at * 1000).toLocaleTimeString("en-GB");
const when = at => Date.now() / 1000 - at < 86000 ? clock(at) : new Date(at * 1000).toLocaleString("en-GB");
const oldest = role => role.waiting === 0 && !role.oldest_s ? "0" : span(role.oldest_s || null);
const mood = role => role.state === "ready" ? "good" : ["crash-looping", "refused"].includes(role.state) ? "bad" : "busy";

function notice(text, isBad) {
  $("notice").hidden = !text;
  $("notice").className = "notice" + (isBad ? " bad" : "");
  set($("notice"), text || "");
}

async function ask(path, order) {
  const options = order ? {method: "POST", headers: {"X-Rolekit-CSRF": state.about.csrf, "Content-Type": "application/json"}, body: JSON.stringify(order)} : {};
  const answer = await fetch(path, options);
  if (answer.status === 401) { location.href = "/login"; throw new Error("the token is needed"); }
  const found = await answer.json();
  if (!answer.ok) throw new Error([found.what, found.fix].filter(Boolean).join(" "));
  return found;
}
async function tell(path, order) {
  try { notice((await ask(path, order)).said); } catch (error) { notice(error.message, true); }
}

/* ---- roles and instances ---- */
const rows = new Map();
function showRoles(roles) {
  const body = $("roles").tBodies[0];
  for (const role of roles.values()) {
    let row = rows.get(role.role);
    if (!row) {
      row = el("tr", {}, ...Array.from({length: 11}, (_, n) => el("td", n > 1 ? {class: "n"} : {})));
      pickable(row, () => choose(role.role));
      rows.set(role.role, row);
      body.append(row);
    }
    const cells = [role.role, role.state, `${role.ready}/${role.instances}`, figure(role.in_hand), figure(role.waiting), oldest(role), rate(role.rate), cores(role.cpu), bytes(role.memory_bytes), figure(role.restarts), figure(role.dead)];
    cells.forEach((text, n) => set(row.cells[n], text));
    row.cells[1].className = mood(role);
    row.cells[10].className = "n" + (role.dead ? " bad" : "");
    row.setAttribute("aria-selected", role.role === state.role);
  }
  for (const [name, row] of rows) if (!roles.has(name)) { row.remove(); rows.delete(name); }
  const isBad = role => mood(role) === "bad", all = [...roles.values()];
  const wanted = [...all.filter(isBad), ...all.filter(role => !isBad(role))].map(role => rows.get(role.role));
  if (wanted.some((row, n) => body.rows[n] !== row)) {
    const focused = document.activeElement;
    body.append(...wanted);
    if (body.contains(focused)) focused.focus({preventScroll: true});
  }
}
function choose(role) {
  state.role = state.role === role ? "" : role;
  $("role").hidden = !state.role;
  if (state.now) show(state.now);
  if (state.role) { $("role-count").value = ""; showRole(); $("role").scrollIntoView({block: "nearest"}); }
}
const SHOWN = 100;
async function showRole() {
  const name = state.role, role = state.now && state.now.roles.find(one => one.role === name);
  if (!role) return;
  set($("role-name"), name + (role.address ? `  ${role.address}` : ""));
  $("role-actions").hidden = !state.about.may_change;
  $("role-said").replaceChildren(...role.said.map(line => el("li", {}, line)));
  let places;
  try { places = await ask("/api/roles/" + encodeURIComponent(name)); } catch (error) { notice(error.message, true); return; }
  if (name !== state.role) return;
  grid(places);
  const worst = [...places].sort((a, b) => (a.state === "ready") - (b.state === "ready") || b.rate - a.rate || a.name.localeCompare(b.name, "en", {numeric: true})).slice(0, SHOWN);
  const body = $("places").tBodies[0];
  while (body.rows.length < worst.length) body.append(el("tr", {}, ...Array.from({length: 9}, (_, n) => el("td", n > 1 ? {class: "n"} : {}))));
  while (body.rows.length > worst.length) body.deleteRow(-1);
  worst.forEach((place, n) => {
    const cells = [place.name, place.state, place.pid == null ? "–" : String(place.pid), figure(place.in_hand), rate(place.rate), place.pid == null ? "–" : figure(place.lag_ms) + " ms", cores(place.cpu), bytes(place.memory_bytes), figure(place.restarts)];
    cells.forEach((text, k) => set(body.rows[n].cells[k], text));
    body.rows[n].cells[1].className = place.state === "ready" ? "good" : "busy";
  });
  set($("places-more"), places.length > SHOWN ? `${figure(places.length - SHOWN)} more that are ready are in the squares above.` : "");
}
function grid(places) {
  const canvas = $("grid"), size = 11, gap = 2, styles = getComputedStyle(document.documentElement);
  const across = Math.max(1, Math.floor((canvas.parentElement.clientWidth - 34) / (size + gap))), down = Math.ceil(places.length / across);
  const scale = window.devicePixelRatio || 1;
  canvas.width = across * (size + gap) * scale; canvas.height = Math.max(1, down * (size + gap)) * scale;
  canvas.style.height = down * (size + gap) + "px"; canvas.style.width = across * (size + gap) + "px";
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colour = {ready: styles.getPropertyValue("--green"), idle: styles.getPropertyValue("--edge"), other: styles.getPropertyValue("--amber")};
  let ready = 0, working = 0;
  places.forEach((place, n) => {
    const isReady = place.state === "ready", works = place.in_hand > 0 || place.rate > 0;
    ready += isReady; working += isReady && works;
    pen.fillStyle = isReady ? colour.ready : colour.other;
    pen.globalAlpha = isReady && !works ? 0.35 : 1;
    pen.fillRect((n % across) * (size + gap), Math.floor(n / across) * (size + gap), size, size);
  });
  set($("grid-key"), `A square is an instance: ${figure(ready)} of ${figure(places.length)} ready, ${figure(working)} at work in the last seconds: pale are those that were not.`);
}

/* ---- what comes once a second ---- */
function show(now) {
  const begun = performance.now();
  state.now = now;
  const chip = $("state");
  if (now.problem) {
    set(chip, "gone"); chip.className = "chip bad"; notice(now.problem, true); state.failed = 1; state.missing = "";
    return;
  }
  if (state.failed) { state.failed = 0; notice(""); }
  if (now.is_database_away) notice("The database is away: queues cannot be read.", true);
  const missing = now.missing.join(", ");
  if (missing !== state.missing) notice(missing && `No answer from ${missing}: their instances are not in these numbers.`, true);
  state.missing = missing;
  const roles = new Map(now.roles.map(role => [role.role, role]));
  const all = [...roles.values()], sum = field => all.reduce((total, role) => total + (role[field] || 0), 0);
  set($("app"), now.app); document.title = `${now.app} · rolekit`;
  const worst = all.some(role => mood(role) === "bad") ? "bad" : now.state === "ready" ? "good" : "busy";
  set(chip, worst === "bad" ? "in trouble" : now.state); chip.className = "chip " + worst;
  const totals = [["instances", `${figure(sum("ready"))} of ${figure(sum("instances"))}`, "Ready, of how many there should be; more while some are replaced"], ["messages handled/s", rate(sum("rate")), "By all roles together: a message counts at each role that handles it, a request at its front"], ["waiting", figure(sum("waiting"))], ["CPU with supervisor", cores(now.supervisor_cpu == null ? null : sum("cpu") + now.supervisor_cpu), "Of all roles and the supervisor, which has no row below"], ["memory with supervisor", bytes(sum("memory_bytes") + now.supervisor_bytes), "Of all roles and the supervisor, which has no row below"]];
  const list = $("totals");
  if (!list.children.length) list.append(...totals.map(([name, , title]) => el("div", {title}, el("dt", {}, name), el("dd", {}))));
  totals.forEach(([, text], n) => set(list.children[n].lastChild, text));
  const dead = sum("dead");
  $("dead-count").hidden = !dead; set($("dead-count"), figure(dead));
  if (!$("pipeline").hidden) { paint(roles); showRoles(roles); if (state.role) showRole(); }
  const seen = document.documentElement.dataset;
  seen.updates = Number(seen.updates || 0) + 1;
  seen.updateMs = (performance.now() - begun).toFixed(1);
}

/* ---- the other views ---- */
function fill(table, found, make) {
  const shown = $(table);
  shown.tBodies[0].replaceChildren(...found.map(make));
  shown.hidden = !found.length;
  shown.closest(".card").querySelector(".empty").hidden = Boolean(found.length);
}
function pickable(one, act) {
  one.setAttribute("tabindex", 0);
  one.addEventListener("click", act);
  one.addEventListener("keydown", event => { if (event.target === one && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); act(); } });
  return one;
}
/* Names that break where a narrow window needs it, and there between their parts. */
const broken = name => (name.match(/[^./]+[./]*|[./]+/g) || []).flatMap((part, n) => n ? [el("wbr"), part] : [part]);
const short = id => el("code", {title: id}, id.length > 14 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id);

async function showSequences() {
  fill("holes", await ask("/api/holes"), line => el("tr", {},
    el("td", {class: "what"}, `${line.of} `, short(line.sequence)), el("td", {class: "wide"}, line.gather),
    el("td", {}, line.total ? el("progress", {max: line.total, value: line.released}) : "", ` ${figure(line.released)}${line.total ? ` of ${figure(line.total)}` : ""}`),
    el("td", {class: "wide"}, line.blocked_at || "–"), el("td", {class: "n"}, span(line.since_s)), el("td", {class: "why"}, ...broken(line.why))));
}
async function showDead() {
  const query = new URLSearchParams(new FormData($("dead-search")));
  fill("letters", await ask("/api/dead?" + query), letter => pickable(el("tr", {},
    el("td", {}, when(letter.at)), el("td", {class: "what"}, ...broken(letter.handler)), el("td", {class: "wide"}, `${letter.type} `, short(letter.id)), el("td", {class: "why"}, letter.reason), el("td", {class: "n wide"}, figure(letter.attempts))), () => showLetter(letter.id)));
}
async function showLetter(id) {
  const letter = await ask("/api/dead/" + encodeURIComponent(id));
  const body = el("pre", {hidden: ""}, letter.body + (letter.is_cut ? "\n… cut here" : ""));
  const reveal = el("button", {}, "Show the message");
  reveal.addEventListener("click", () => { body.hidden = !body.hidden; set(reveal, body.hidden ? "Show the message" : "Hide the message"); });
  const act = (name, path, question, kind) => {
    const button = el("button", {class: kind}, name);
    button.addEventListener("click", async () => { if (confirm(question)) { await tell(path, {id: letter.id}); $("letter").hidden = true; showDead(); } });
    return button;
  };
  const head = el("div", {class: "head"}, el("h2", {}, letter.reason), el("span", {}, reveal, " ",
    ...(state.about.may_change && !letter.is_closed ? [act("Send again", "/api/replay", "Send this message again?", ""), " ", act("Drop", "/api/drop", "Drop this message? It will not be handled any more.", "danger")] : [])));
  $("letter").replaceChildren(head, el("p", {class: "soft"}, `${letter.handler}, ${letter.type}, attempt ${letter.attempts}, ${when(letter.at)}, `, el("code", {}, letter.id)), body,
    ...(letter.detail ? [el("p", {}, letter.detail)] : []), ...(letter.traceback ? [el("pre", {}, letter.traceback)] : []));
  $("letter").hidden = false;
  $("letter").scrollIntoView({block: "start"});
}
async function showTraces() {
  const grades = [["good", "well"], ["busy", "slow"], ["bad", "failed"]];
  fill("trace-list", await ask("/api/traces"), trace => pickable(el("tr", {},
    el("td", {}, when(trace.at)), el("td", {class: "what"}, ...broken(trace.name || "–")), el("td", {class: "n"}, trace.seconds == null ? "–" : span(trace.seconds)),
    el("td", {class: grades[trace.grade][0]}, grades[trace.grade][1]), el("td", {class: "n wide"}, figure(trace.spans)), el("td", {class: "wide"}, short(trace.id))), () => showTrace(trace.id)));
}
const WORK = {process: "handler", send: "publish", commit: "commit", store: "hole"};
const swatch = stage => el("i", {class: `swatch in-${stage}`});
const bar = (...parts) => svg("svg", {viewBox: "0 0 100 16", preserveAspectRatio: "none"}, ...parts);
function inOrder(spans) {
  const ids = new Set(spans.map(one => one.id)), children = new Map(), ordered = [];
  for (const one of spans) { const key = ids.has(one.parent) ? one.parent : ""; children.set(key, [...(children.get(key) || []), one]); }
  const walk = (key, depth) => { for (const one of children.get(key) || []) { ordered.push([one, depth]); walk(one.id, depth + 1); } };
  walk("", 0);
  return ordered;
}
function spanLine(one, depth, begun, whole) {
  const took = one.ended_ns ? one.ended_ns - one.begun_ns : 0, where = one.instance || one.role || "";
  const name = el("div", {class: "name" + (one.error ? " bad" : ""), title: `${one.name}\n${where}${one.error ? `\n${one.error}: ${one.detail || ""}` : ""}`}, one.name, el("small", {}, ` ${where}${one.error ? ` · ${one.error}` : ""}`));
  name.style.setProperty("--depth", Math.min(depth, 20));
  const piece = svg("rect", {x: 100 * (one.begun_ns - begun) / whole, y: 3, width: Math.max(0.4, 100 * took / whole), height: 10, class: one.error ? "in-error" : `in-${WORK[one.name.split(" ")[0]] || "intake"}`});
  return el("div", {class: "line"}, name, el("div", {class: "n"}, !one.ended_ns ? "under way" : took ? span(took / 1e9) : "0"), bar(piece));
}
async function showTrace(id) {
  let found;
  try { found = await ask("/api/traces/" + encodeURIComponent(id)); } catch (error) { notice(error.message, true); return; }
  notice("");
  const spans = found.spans, begun = Math.min(...spans.map(one => one.begun_ns)), ended = Math.max(...spans.map(one => one.ended_ns || one.begun_ns)), whole = Math.max(1, ended - begun);
  const ordered = inOrder(spans), stages = Object.entries(found.seconds).filter(([, seconds]) => seconds > 0), way = stages.reduce((total, [, seconds]) => total + seconds, 0);
  let at = 0;
  const shares = stages.map(([name, seconds]) => { const x = at; at += 100 * seconds / way; return svg("rect", {x, y: 0, width: at - x, height: 16, class: `in-${name}`}); });
  const scale = el("div", {class: "line scale"}, el("div", {class: "name"}, "since the first began"), el("div", {class: "ticks"}, ...[0, 0.25, 0.5, 0.75, 1].map(share => el("span", {}, share ? span(share * whole / 1e9) : "0"))));
  $("trace").replaceChildren(el("div", {class: "head"}, el("h2", {}, ordered[0][0].name, " ", el("code", {class: "soft"}, spans[0].trace)), ...(state.about.trace_page ? [el("a", {href: state.about.trace_page.replace("{trace_id}", spans[0].trace), rel: "noreferrer"}, "in the collector")] : [])),
    el("p", {}, `${figure(found.count)} ${found.count === 1 ? "span" : "spans"} over ${span(whole / 1e9)}` + (found.cause ? `; on the way to its end most went to ${found.cause.stage}, the longest at ${found.cause.where}` : "")),
    ...(way ? [el("div", {class: "shares"}, bar(...shares)), el("div", {class: "stages"}, ...stages.map(([name, seconds]) => el("span", {}, swatch(name), `${name} `, el("b", {}, span(seconds))))), el("p", {class: "soft"}, "Above, each moment of the way to its end, once. Below, every step as long as it took, also beside that way; in the gaps messages wait in queues.")] : []),
    el("div", {class: "spans"}, scale, ...ordered.slice(0, 400).map(([one, depth]) => spanLine(one, depth, begun, whole))), ...(ordered.length > 400 ? [el("p", {class: "soft"}, `${figure(ordered.length - 400)} more are not drawn; rolekit trace has them.`)] : []));
  $("trace").hidden = false;
  $("trace").scrollIntoView({block: "start"});
}

/* ---- views, and the stream ---- */
const VIEWS = {pipeline: () => state.now && show(state.now), sequences: showSequences, dead: showDead, traces: showTraces};
async function view() {
  const name = location.hash.slice(1).split("/")[0] in VIEWS ? location.hash.slice(1).split("/")[0] : "pipeline";
  for (const one of document.querySelectorAll(".view")) one.hidden = one.id !== name;
  for (const tab of document.querySelectorAll(".tab")) tab.getAttribute("href") === "#" + name ? tab.setAttribute("aria-current", "page") : tab.removeAttribute("aria-current");
  try { await VIEWS[name](); } catch (error) { notice(error.message, true); }
}
function listen() {
  const stream = new EventSource("/api/live");
  stream.onmessage = event => { if (!document.hidden || !state.now) show(JSON.parse(event.data)); };
  stream.onerror = () => { set($("state"), "connecting"); $("state").className = "chip busy"; };
}
async function start() {
  state.about = await ask("/api/about");
  draw(state.about.drawing);
  addEventListener("hashchange", view);
  $("dead-search").addEventListener("submit", event => { event.preventDefault(); showDead(); });
  $("trace-search").addEventListener("submit", event => { event.preventDefault(); showTrace(new FormData(event.target).get("id").trim()); });
  $("role-scale").addEventListener("click", () => tell("/api/scale", {role: state.role, count: $("role-count").value.trim()}));
  $("role-restart").addEventListener("click", () => { if (confirm(`Restart all instances of ${state.role}, by turns?`)) tell("/api/restart", {role: state.role}); });
  listen();
  await view();
  setInterval(() => { if (!document.hidden && !$("sequences").hidden) showSequences().catch(() => {}); }, 2000);
}
start().catch(error => notice(error.message, true));
