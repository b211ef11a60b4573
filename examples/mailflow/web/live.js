// Follows a report: each event brings the next lines, in recipient order. The server keeps
// the events, so a reader that comes late, or back, misses none; lines that the page has
// already are skipped by their number. Texts go in as text, never as HTML.
"use strict";

const live = document.getElementById("live");
const bar = document.getElementById("bar");
const parts = document.getElementById("parts");
const count = document.getElementById("count");
const list = document.getElementById("lines");
const underway = document.getElementById("underway");
const trouble = document.getElementById("trouble");
const sums = new Map(
  Array.from(document.querySelectorAll("#sums > [data-outcome]"), (item) => [
    item.dataset.outcome,
    item,
  ]),
);

const ATTEMPTS = 6; // about half a minute: longer than a front needs to start again
let done = Number(live.dataset.done);
let of = Number(live.dataset.of);
let failed = 0;
let isNamed = of > 0; // a mail that nobody has split yet has no subject here

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

function add(line) {
  if (line.number !== done) return;
  const item = document.createElement("li");
  item.append(span("place", line.number + 1), " ", span("rcpt", line.rcpt), " ");
  item.append(span(`tag ${line.outcome}`, line.outcome));
  if (line.detail) item.append(" ", span("hint", line.detail));
  list.append(item);
  done += 1;
  const sum = sums.get(line.outcome);
  sum.firstElementChild.textContent = Number(sum.firstElementChild.textContent) + 1;
  sum.hidden = false;
}

const numberOf = (outcome) => Number(sums.get(outcome).firstElementChild.textContent);

// The bar has a part for each outcome; they stand in the order of the sums below it.
function show() {
  const ended = numberOf("lost") ? "delivered, bounced or lost" : "delivered or bounced";
  bar.max = of || 1;
  bar.value = done;
  parts.setAttribute("viewBox", `0 0 ${of || 1} 1`);
  let x = 0;
  for (const part of parts.children) {
    const number = numberOf(part.getAttribute("class"));
    part.setAttribute("x", x);
    part.setAttribute("width", number);
    x += number;
  }
  underway.firstElementChild.textContent = of - done;
  underway.hidden = done >= of;
  count.textContent =
    done < of ? `${done} of ${of} ${ended}, ${of - done} under way` : `All ${of} ${ended}`;
}

function say(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
}

// The page came before the mail was split; take its subject from the page as it is now.
async function name() {
  isNamed = true;
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["subject", "about"]) {
    document.getElementById(id).textContent = page.getElementById(id).textContent;
  }
  document.title = page.title;
}

function onProgress(event) {
  const progress = JSON.parse(event.data);
  failed = 0;
  say("");
  of = progress.of;
  progress.lines.forEach(add);
  show();
  if (!isNamed) name().catch(() => {}); // only a title; the report goes on
}

function onReport(source, event) {
  source.close();
  of = JSON.parse(event.data).of;
  say("");
  show();
  live.classList.add("is-done");
}

function onProblem(source, event) {
  source.close();
  say(JSON.parse(event.data).detail);
}

// A browser comes back by itself, with Last-Event-ID, unless the answer was no stream.
// That may be a front about to be ready, so it is asked a few times more, from the start.
function onError(source) {
  if (source.readyState !== EventSource.CLOSED) {
    say("The connection was lost; trying again.");
  } else if (failed < ATTEMPTS) {
    failed += 1;
    say("The report does not answer; trying again.");
    setTimeout(follow, 500 * 2 ** (failed - 1));
  } else {
    say("The report cannot be followed now. Load the page again later.");
  }
}

function follow() {
  const source = new EventSource(live.dataset.source);
  source.addEventListener("Progress", onProgress);
  source.addEventListener("Report", (event) => onReport(source, event));
  source.addEventListener("problem", (event) => onProblem(source, event));
  source.addEventListener("error", () => onError(source));
  source.addEventListener("open", () => say(""));
}

if (!of || done < of) follow();
