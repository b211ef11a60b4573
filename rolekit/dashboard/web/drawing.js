"use strict";
/* The pipeline as a drawing: columns from left to right, or, where the window is too narrow for
   that, lines from top to bottom. Both go through `drawn`, which knows nothing of directions. */

const BOX = {width: 184, height: 86, across: 92, down: 26};
const LABEL = 14;       // letters of a label that fit between two boxes
const SMALLEST = 0.8;   // a drawing that would be smaller is scrolled instead
const BESIDE = 96;      // room for an arrow that comes from outside, or goes there
const ENTRY = 36;       // room for one without a name: what enters a front
const LINES = 2;        // of names that an arrow shows; the title that hovering shows has all
const DOWN = {across: 12, down: 58, side: 22, turn: 12};  // from top to bottom: gaps, the margin for arrows that pass lines, and between those
const boxes = new Map(), arrows = [];

/* Names of an arrow, in lines of so many letters; "+N" stands for those that find no room. */
function labelled(names, isSplit, room = LABEL) {
  const short = names.map(name => name.split(".").pop()).map(name => name.length > room + 2 ? name.slice(0, room + 1) + "…" : name);
  const lines = [];
  let shown = 0;
  for (const name of short) {
    const longer = lines.length && `${lines[lines.length - 1]}, ${name}`;
    if (longer && longer.length <= room) lines[lines.length - 1] = longer;
    else if (lines.length < LINES) lines.push(name);
    else break;
    shown++;
  }
  const texts = lines.map((line, n) => n < lines.length - 1 ? line + "," : shown < short.length ? `${line} +${short.length - shown}` : line);
  return [(isSplit ? "⇉ " : "") + texts[0], ...texts.slice(1)];
}
/* What a role without handlers sends is not known before it does: such fronts stand before
   those that take what no role makes, where there are any. */
const fronts = drawing => drawing.boxes.filter(box => box.column === 0 && !box.handlers.length).map(box => box.role);
function columnsOf(drawing) {
  const first = fronts(drawing), isTaken = drawing.arrows.some(arrow => !arrow.sender);
  const columns = [];
  for (const box of [...drawing.boxes].sort((a, b) => a.row - b.row)) {
    const column = box.column + (first.length && isTaken && !first.includes(box.role) ? 1 : 0);
    (columns[column] ||= []).push(box.role);
  }
  return columns;
}
function across(drawing) {
  const columns = columnsOf(drawing), first = fronts(drawing), step = BOX.height + BOX.down;
  const rows = Math.max(0, ...columns.map(roles => roles.length));
  const isLast = role => columns[columns.length - 1].includes(role);
  const left = first.length ? ENTRY : drawing.arrows.some(arrow => !arrow.sender && columns[0].includes(arrow.taker)) ? BESIDE : 6;
  const right = drawing.arrows.some(arrow => !arrow.taker && isLast(arrow.sender)) ? BESIDE : 6;
  const width = left + right + columns.length * BOX.width + (columns.length - 1) * BOX.across;
  const place = new Map(columns.flatMap((roles, column) => roles.map((role, row) => [role, {
    x: left + column * (BOX.width + BOX.across),
    y: row * step + (rows - roles.length) * step / 2,
    column,
  }])));
  const lines = [];
  const middle = place => place.y + BOX.height / 2;
  const forward = (from, to) => { const a = from.x + BOX.width, b = to.x - 2, mid = (a + b) / 2; return `M${a} ${middle(from)}C${mid} ${middle(from)} ${mid} ${middle(to)} ${b} ${middle(to)}`; };
  for (const arrow of drawing.arrows) {
    const from = place.get(arrow.sender), to = place.get(arrow.taker);
    let d, x, y, anchor = "middle", room = LABEL, isBelow = false;
    if (!from && to && to.column === 1 && first.length) {
      first.forEach((role, n) => lines.push({arrow: {...arrow, sender: role}, d: forward(place.get(role), to), x: to.x - 10, y: middle(to) + 20, anchor: "end", isBelow: true, isPlain: n > 0}));
      continue;
    }
    if (!from && to) { y = middle(to); d = `M${to.x - BESIDE + 8} ${y}H${to.x - 2}`; x = to.x - BESIDE + 12; y -= 3; anchor = "start"; }
    else if (from && !to) { y = middle(from) + 22; d = `M${from.x + BOX.width} ${y}H${from.x + BOX.width + BESIDE - 14}`; x = from.x + BOX.width + 4; y += 22; anchor = "start"; isBelow = true; }
    else if (arrow.sender === arrow.taker) { room = 20; isBelow = true; y = from.y + BOX.height; d = `M${from.x + BOX.width - 14} ${y}c0 22 -30 22 -30 2`; x = from.x + BOX.width - 52; y += 20; anchor = "end"; }
    else if (to.column > from.column + 1) {
      const a = from.x + BOX.width - 50, b = to.x + 50, high = Math.min(from.y, to.y) - 34;
      d = `M${a} ${from.y}C${a + 50} ${high} ${b - 50} ${high} ${b} ${to.y - 2}`;
      x = (a + b) / 2; y = (from.y + to.y) / 8 + high * 0.75;
    }
    else if (to.column > from.column) {
      d = forward(from, to);
      x = (from.x + BOX.width + to.x) / 2; y = (middle(from) + middle(to)) / 2;
    } else {
      const low = Math.max(from.y, to.y) + BOX.height + 16;
      d = `M${from.x + BOX.width / 2} ${from.y + BOX.height}C${from.x + BOX.width / 2} ${low} ${to.x + BOX.width / 2} ${low} ${to.x + BOX.width / 2} ${to.y + BOX.height + 2}`;
      x = (from.x + to.x + BOX.width) / 2; y = low;
    }
    lines.push({arrow, d, x, y, anchor, room, isBelow});
  }
  for (const role of first) lines.push(entering(role, `M${place.get(role).x - ENTRY + 6} ${middle(place.get(role))}H${place.get(role).x - 2}`));
  return {place, lines, width, height: rows * step - BOX.down};
}
const entering = (role, d) => ({arrow: {sender: "", taker: role, names: ["from outside"]}, d, isPlain: true});
/* Each column is one line, or some where it is long; what has no handlers stands before all. */
function down(drawing, room) {
  const apart = BOX.width + DOWN.across, step = BOX.height + DOWN.down, first = fronts(drawing);
  const inLine = Math.max(1, Math.floor((room / SMALLEST - 2 * DOWN.side + DOWN.across) / apart));
  const layers = new Map();
  for (const box of drawing.boxes) {
    const layer = first.includes(box.role) ? -1 : box.column;
    layers.set(layer, [...(layers.get(layer) || []), box]);
  }
  const longest = Math.min(inLine, Math.max(1, ...[...layers.values()].map(boxes => boxes.length)));
  const place = new Map(), width = 2 * DOWN.side + longest * apart - DOWN.across;
  let line = 0;
  for (const layer of [...layers.keys()].sort((a, b) => a - b)) {
    const boxes = layers.get(layer).sort((a, b) => a.row - b.row);
    for (let at = 0; at < boxes.length; at += inLine, line++) {
      const some = boxes.slice(at, at + inLine), left = (width - some.length * apart + DOWN.across) / 2;
      some.forEach((box, n) => place.set(box.role, {x: left + n * apart, y: line * step, line, column: layer}));
    }
  }
  const lines = [], passing = new Map(), centre = one => one.x + BOX.width / 2, foot = one => one.y + BOX.height;
  const straight = (from, to) => { const mid = (foot(from) + to.y) / 2; return `M${centre(from)} ${foot(from)}C${centre(from)} ${mid} ${centre(to)} ${mid} ${centre(to)} ${to.y - 2}`; };
  for (const arrow of drawing.arrows) {
    const from = place.get(arrow.sender), to = place.get(arrow.taker);
    if (!from && to) {
      const label = {x: centre(to) + 6, y: to.y - 8, anchor: "start"};
      if (to.column > 0 || !first.length) lines.push({arrow, d: `M${centre(to)} ${to.y - 30}V${to.y - 2}`, ...label});
      else first.forEach((role, n) => lines.push({arrow: {...arrow, sender: role}, d: straight(place.get(role), to), ...label, isPlain: n > 0}));
    }
    else if (from && !to) lines.push({arrow, d: `M${centre(from) - 40} ${foot(from)}v24`, x: centre(from) - 46, y: foot(from) + 25, anchor: "end", isBelow: true});
    else if (arrow.sender === arrow.taker) lines.push({arrow, d: `M${from.x + BOX.width - 14} ${foot(from)}c0 22 -30 22 -30 2`, x: from.x + BOX.width - 8, y: foot(from) + 17, anchor: "start", isBelow: true});
    else if (to.line === from.line + 1) lines.push({arrow, d: straight(from, to), x: (centre(from) + centre(to)) / 2, y: (foot(from) + to.y) / 2 + 8, anchor: "middle"});
    else {
      // It passes other lines beside them, and comes in from above.
      const isBack = to.line <= from.line, nth = passing.get(isBack) || 0, turn = to.y - 16 - 4 * (nth % 3);
      passing.set(isBack, nth + 1);
      const edge = isBack ? DOWN.side - 6 - 4 * (nth % 4) : width - DOWN.side + 6 + 4 * (nth % 4);
      const out = isBack ? from.x : from.x + BOX.width, end = centre(to) + (isBack ? -DOWN.turn : DOWN.turn) * (1 + nth % 3);
      lines.push({arrow, d: `M${out} ${from.y + BOX.height / 2}H${edge}V${turn}H${end}V${to.y - 2}`, x: isBack ? edge + 4 : edge - 4, y: turn, anchor: isBack ? "start" : "end"});
    }
  }
  for (const role of first) lines.push(entering(role, `M${centre(place.get(role))} ${place.get(role).y - 26}V${place.get(role).y - 2}`));
  return {place, lines, width, height: line * step - DOWN.down, top: first.length ? -26 : 0};
}
function drawn(drawing, {place, lines, width, height, top = 0}) {
  const made = svg("svg", {}), beside = new Map(), names = [];
  let above = top, below = height;
  made.append(svg("defs", {}, svg("marker", {id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse"}, svg("path", {d: "M0 0 8 4 0 8z", class: "tip"}))));
  boxes.clear();
  arrows.length = 0;
  for (const {arrow, d, x, y, anchor, room, isBelow, isPlain} of lines) {
    const line = svg("path", {d, class: "arrow", "marker-end": "url(#tip)", "stroke-width": arrow.is_split ? 2.6 : 1.4});
    const all = () => svg("title", {}, document.createTextNode(arrow.names.join(", ")));
    line.append(all());
    made.append(line);
    arrows.push({line, sender: arrow.sender, taker: arrow.taker});
    if (isPlain) continue;
    const texts = labelled(arrow.names, arrow.is_split, room), higher = isBelow ? 0 : 13 * (texts.length - 1);
    const key = `${Math.round(x / 50)}:${Math.round(y / 10)}`, taken = beside.get(key) || 0;
    beside.set(key, taken + texts.length);
    const begin = y - 5 - higher + 13 * taken;
    names.push(svg("text", {y: begin, class: "name", "text-anchor": anchor}, all(), ...texts.map((text, n) => svg("tspan", {x, dy: n ? 13 : 0}, document.createTextNode(text)))));
    above = Math.min(above, begin - 15); below = Math.max(below, begin + 13 * texts.length - 8);
  }
  made.append(...names);  // over all lines: a line that crosses a name ends beside it
  for (const box of drawing.boxes) {
    const {x, y} = place.get(box.role);
    const lamp = svg("circle", {cx: x + 16, cy: y + 19, r: 5.5, class: "lamp"});
    const count = svg("text", {x: x + BOX.width - 12, y: y + 46, class: "soft", "text-anchor": "end"});
    const flow = svg("text", {x: x + 12, y: y + 46, "font-weight": 600});
    const depth = svg("text", {x: x + 12, y: y + 65, class: "soft"});
    const bar = svg("rect", {x: x + 12, y: y + 73, width: 0, height: 4, rx: 2, class: "depth"});
    const name = box.role.length > 18 ? box.role.slice(0, 17) + "…" : box.role;
    const group = svg("g", {class: "role", role: "button", "aria-label": box.role},
      svg("title", {}, document.createTextNode(`${box.role}\n` + box.handlers.map(h => `${h.name}(${h.takes.join(", ")})`).join("\n"))),
      svg("rect", {x, y, width: BOX.width, height: BOX.height, rx: 9, class: "box"}), lamp,
      svg("text", {x: x + 28, y: y + 24, class: "title"}, document.createTextNode(name)), count, flow, depth,
      svg("rect", {x: x + 12, y: y + 73, width: BOX.width - 24, height: 4, rx: 2, class: "rail"}), bar);
    made.append(pickable(group, () => choose(box.role)));
    boxes.set(box.role, {group, lamp, count, flow, depth, bar});
  }
  made.setAttribute("viewBox", `0 ${above - 4} ${width} ${below - above + 8}`);
  made.style.width = `min(${width}px, 100%)`;
  return made;
}
/* It shrinks a little to be seen whole; where that is not enough, it goes from top to bottom. */
function draw(drawing) {
  const wide = across(drawing), card = $("drawing");
  let room = 0;
  const fit = () => {
    if (!card.clientWidth || card.clientWidth === room) return;
    room = card.clientWidth;
    const inside = room - parseFloat(getComputedStyle(card).paddingLeft) - parseFloat(getComputedStyle(card).paddingRight);
    const isWide = inside >= wide.width * SMALLEST;
    card.dataset.runs = isWide ? "across" : "down";
    card.replaceChildren(drawn(drawing, isWide ? wide : down(drawing, inside)));
    if (state.now) show(state.now);
  };
  new ResizeObserver(fit).observe(card);  // also when its view is opened
}
function paint(roles) {
  for (const role of roles.values()) {
    const box = boxes.get(role.role);
    if (!box) continue;
    box.lamp.setAttribute("class", "lamp " + mood(role));
    box.group.setAttribute("class", "role" + (role.role === state.role ? " chosen" : ""));
    set(box.count, role.ready >= role.instances ? `${figure(role.ready)} ready` : `${role.ready} of ${role.instances} ready`);
    set(box.flow, `${rate(role.rate)}/s`);
    const depth = (role.waiting || 0) + role.in_hand;
    set(box.depth, role.waiting == null ? `${compact(role.in_hand)} in hand` : `${compact(role.waiting)} waiting, ` + (role.oldest_s > 1 ? `oldest ${span(role.oldest_s)}` : `${compact(role.in_hand)} in hand`));
    const full = depth ? Math.min(1, Math.log10(1 + depth) / 5) : 0;
    box.bar.setAttribute("width", full * (BOX.width - 24));
    box.bar.setAttribute("class", "depth" + (role.oldest_s > 60 ? " bad" : role.oldest_s > 5 ? " busy" : ""));
  }
  for (const {line, sender, taker} of arrows) {
    const source = roles.get(sender), target = roles.get(taker);
    line.setAttribute("class", "arrow" + ((source ? source.rate > 0 : target && target.rate > 0) ? " flows" : ""));
  }
}
