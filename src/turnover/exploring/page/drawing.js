// Small figures, in SVG. Attributes only: the page's policy allows no style but its own.
function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat());
  return node;
}

const MARGIN = { left: 28, right: 12, top: 14, bottom: 34 };
const SIZE = { width: 360, height: 216 };

/** An influence as a bar from the left, its standard error as a whisker; hollow where it is less than two of these. */
function bar(influence, error, largest) {
  const scale = (value) => Math.max(0, Math.min(100, (100 * value) / largest));
  const size = Math.abs(influence);
  const kind = influence > 0 ? "helpful" : "harmful";
  const unsure = error !== undefined && error !== null && size < 2 * error;
  const parts = [draw("rect", { class: `bar ${kind}${unsure ? " unsure" : ""}`, x: 0.5, y: 2, width: Math.max(0.5, scale(size) - 0.5), height: 6 })];
  if (error) {
    const [low, high] = [scale(size - error), scale(size + error)];
    parts.push(draw("path", { class: "whisker", d: `M${low} 5H${high}M${low} 2.5V7.5M${high} 2.5V7.5` }));
  }
  return draw("svg", { class: "bars", viewBox: "0 0 101 10", preserveAspectRatio: "none", "aria-hidden": "true" }, parts);
}

/** A frame with axes: x in [low, high], y in [0, top]. */
function frame(title, { low, high, top, ticksX, ticksY, labelX, labelY }) {
  const x = (value) => MARGIN.left + ((value - low) / (high - low || 1)) * (SIZE.width - MARGIN.left - MARGIN.right);
  const y = (value) => SIZE.height - MARGIN.bottom - (value / (top || 1)) * (SIZE.height - MARGIN.top - MARGIN.bottom);
  const svg = draw("svg", { class: "figure", viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", "aria-label": title });
  for (const [value, text] of ticksY) {
    svg.append(draw("path", { class: "grid", d: `M${MARGIN.left} ${y(value)}H${SIZE.width - MARGIN.right}` }));
    svg.append(draw("text", { x: MARGIN.left - 5, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  for (const [value, text] of ticksX) svg.append(draw("text", { x: x(value), y: SIZE.height - MARGIN.bottom + 15, "text-anchor": "middle" }, text));
  svg.append(draw("text", { class: "axis", x: SIZE.width - MARGIN.right, y: SIZE.height - 4, "text-anchor": "end" }, labelX));
  if (labelY) svg.append(draw("text", { class: "axis", x: MARGIN.left, y: 10 }, labelY));
  return { svg, x, y };
}

const DASHES = { exposed: "", flipped: "5 3", full: "1.5 3" };
const SHAPES = { exposed: "circle", flipped: "square", full: "none" };

/** Probability of the given label by epoch, a line a network, told apart by dashes and marks, too. */
function learningCurve(place) {
  const epochs = data.epochs;
  const [low, high] = [epochs[0], epochs[epochs.length - 1]];
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((size) => (high - low) / size <= 6) ?? 1000;
  const ticks = [];
  for (let epoch = Math.ceil(low / step) * step; epoch <= high; epoch += step) ticks.push([epoch, String(epoch)]);
  const { svg, x, y } = frame(`Learning curve of ${nameOf("train", place)}; the numbers are in the table below`, {
    low, high, top: 1, ticksX: ticks, ticksY: [[0, "0"], [0.5, ".5"], [1, "1"]], labelX: "epoch",
  });
  for (const network of Object.keys(data.curves).reverse()) {
    const values = curveOf(network, place);
    const points = values.map((value, epoch) => value !== null && [x(epochs[epoch]), y(value)]).filter(Boolean);
    const line = points.map(([a, b], first) => `${first ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
    svg.append(draw("path", { class: `line ${COLOURS[network]}`, d: line, "stroke-dasharray": DASHES[network] }));
    for (const [a, b] of points) {
      if (SHAPES[network] === "circle") svg.append(draw("circle", { class: COLOURS[network], cx: a, cy: b, r: 2.4 }));
      if (SHAPES[network] === "square") svg.append(draw("rect", { class: COLOURS[network], x: a - 2.2, y: b - 2.2, width: 4.4, height: 4.4 }));
    }
  }
  return svg;
}

/** The key of the learning curve: a piece of each line, and its name. */
function curveKey() {
  return make("ul", { class: "key" }, Object.keys(data.curves).map((network) => {
    const parts = [draw("path", { class: `line ${COLOURS[network]}`, d: "M0 6H26", "stroke-dasharray": DASHES[network] })];
    if (SHAPES[network] === "circle") parts.push(draw("circle", { class: COLOURS[network], cx: 13, cy: 6, r: 2.6 }));
    if (SHAPES[network] === "square") parts.push(draw("rect", { class: COLOURS[network], x: 10.6, y: 3.6, width: 4.8, height: 4.8 }));
    return make("li", {}, draw("svg", { viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" }, parts), ` ${network}`);
  }));
}

const BINS = 40;

/** Memorization of one example, its standard error about it, above a histogram of the placebos. */
function placeboFigure(place) {
  const value = data.training.memorization[place];
  const error = data.training.memorization_se?.[place] ?? 0;
  const placebos = data.placebos.filter((other) => other !== null);
  const all = [...placebos, ...data.training.memorization.filter((other) => other !== null)];
  let [low, high] = [Infinity, -Infinity];
  for (const other of all) [low, high] = [Math.min(low, other), Math.max(high, other)];
  const counts = new Array(BINS).fill(0);
  for (const other of placebos) counts[Math.min(BINS - 1, Math.floor((BINS * (other - low)) / (high - low || 1)))] += 1;
  const top = Math.max(...counts) * 1.4;
  const { svg, x, y } = frame(`Memorization of ${nameOf("train", place)} is ${told(value)}; ${placeboWords(place)}`, {
    low, high, top, ticksX: [[low, told(low)], [0, "0"], [high, told(high)]].filter(([at]) => at === 0 || Math.abs(at) > (high - low) / 8),
    ticksY: [], labelX: "memorization", labelY: "placebos",
  });
  const width = (x(high) - x(low)) / BINS;
  for (const [bin, count] of counts.entries()) {
    if (count) svg.append(draw("rect", { class: "placebo", x: x(low) + bin * width + 0.5, y: y(count), width: width - 1, height: y(0) - y(count) }));
  }
  svg.append(draw("path", { class: "grid strong", d: `M${x(low)} ${y(0)}H${x(high)}` }));
  const [at, level] = [x(value), y(top * 0.82)];
  svg.append(draw("path", { class: "line vermillion", d: `M${at} ${y(0)}V${level}` }));
  if (error) svg.append(draw("path", { class: "line vermillion", d: `M${x(value - error)} ${level}H${x(value + error)}` }));
  svg.append(draw("path", { class: "vermillion", d: `M${at} ${level - 5}l5 5l-5 5l-5 -5z` }));
  const anchor = at > SIZE.width / 2 ? "end" : "start";
  svg.append(draw("text", { class: "strong", x: at + (anchor === "end" ? 7 : -7), y: level - 11, "text-anchor": anchor }, "this example"));
  return svg;
}

/** How the memorization of an example compares with that of the placebos. */
function placeboWords(place) {
  const value = data.training.memorization[place];
  const known = data.placebos.filter((other) => other !== null);
  const smaller = known.filter((other) => other < value).length;
  if (smaller === known.length) return `larger than that of all ${counted(known.length)} placebos`;
  return `larger than that of ${counted(smaller)} of ${counted(known.length)} placebos`;
}
