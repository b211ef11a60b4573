// Follows a report: each event brings the next lines, in recipient order. The server keeps
// the events, so a reader that comes late, or back, misses none; lines that the page had
// from the start are skipped by their number. Texts go in as text, never as HTML.
"use strict";

const live = document.getElementById("live");
const bar = document.getElementById("bar");
const count = document.getElementById("count");
const list = document.getElementById("lines");
const trouble = document.getElementById("trouble");
let done = Number(live.dataset.done);
let of = Number(live.dataset.of);

function span(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

function add(line) {
  if (line.number !== done) return;
  const item = document.createElement("li");
  item.className = line.outcome;
  item.append(span("place", line.number + 1), " ", span("rcpt", line.rcpt), " ");
  item.append(span(`tag ${line.outcome}`, line.outcome));
  if (line.detail) item.append(" ", span("hint", line.detail));
  list.append(item);
  done += 1;
}

function show(text) {
  bar.max = of || 1;
  bar.value = done;
  count.textContent = text;
}

if (!of || done < of) {
  const source = new EventSource(live.dataset.source);

  source.addEventListener("Progress", (event) => {
    const progress = JSON.parse(event.data);
    of = progress.of;
    progress.lines.forEach(add);
    trouble.hidden = true;
    show(`${done} of ${of} copies closed`);
  });

  source.addEventListener("Report", (event) => {
    const report = JSON.parse(event.data);
    const sums = ["delivered", "junk", "bounced", "lost"]
      .filter((name) => report[name])
      .map((name) => `${report[name]} ${name}`);
    source.close();
    of = report.of;
    show(`All ${of} copies closed: ${sums.join(", ") || "there were none"}`);
  });

  source.addEventListener("problem", (event) => {
    trouble.textContent = JSON.parse(event.data).detail;
    trouble.hidden = false;
    source.close();
  });

  source.addEventListener("error", () => {
    trouble.hidden = false;
    trouble.textContent =
      source.readyState === EventSource.CLOSED
        ? "The report cannot be followed. Load the page again."
        : "The connection was lost; trying again.";
  });

  source.addEventListener("open", () => {
    trouble.hidden = true;
  });
}
