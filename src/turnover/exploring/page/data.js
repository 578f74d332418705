"use strict";
// The data of the page, and what all its parts use. Names from the data become text, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const kinds = {
  target: { table: data.targets, images: data.images?.targets, word: data.target },
  train: { table: data.training, images: data.images?.training, word: "training example" },
};
const COLOURS = { exposed: "blue", flipped: "vermillion", full: "ink" };

for (const kind of Object.values(kinds)) {
  kind.place = new Map((kind.table?.id ?? []).map((id, place) => [String(id), place]));
  for (const [number, address] of (kind.images?.sheets ?? []).entries()) {
    const image = new Image();
    image.src = address;
    kind.images.sheets[number] = { image, ready: image.decode() };
  }
}

// Places of the pairs of each target and of each training example, the strongest first.
const pairsOf = { target: new Map(), train: new Map() };
for (let pair = 0; pair < (data.pairs?.influence.length ?? 0); pair++) {
  for (const [kind, column] of [["target", "target"], ["train", "example"]]) {
    const place = data.pairs[column][pair];
    if (!pairsOf[kind].has(place)) pairsOf[kind].set(place, []);
    pairsOf[kind].get(place).push(pair);
  }
}
const influenced = (target) =>
  (pairsOf.target.get(target) ?? []).reduce((sum, pair) => sum + Math.abs(data.pairs.influence[pair]), 0);

const decoded = new Map();
/** The learning curve of a network: ten-thousandths of all examples, 65535 where there is none. */
function curveOf(network, place) {
  if (!decoded.has(network)) {
    const bytes = Uint8Array.from(atob(data.curves[network]), (letter) => letter.charCodeAt(0));
    decoded.set(network, new DataView(bytes.buffer));
  }
  const width = data.epochs.length;
  return data.epochs.map((_, epoch) => {
    const value = decoded.get(network).getUint16(2 * (place * width + epoch), true);
    return value === 65535 ? null : value / 10000;
  });
}

/** An element with attributes and children; texts become text, and what is null or false is left out. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const digitsOf = (value) => {
  const size = Math.abs(value);
  return size === 0 || size >= 9.95 ? 0 : size >= 0.095 ? 2 : Math.min(6, 1 - Math.floor(Math.log10(size)));
};
/** A number for people: two digits that count, with a real minus. */
function told(value, signed = false, digits = digitsOf(value)) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : signed && value > 0 ? "+" : "";
  return sign + size.toFixed(digits);
}
/** A number that programs can read, too. */
const number = (value, signed) => make("data", { value: value ?? "" }, told(value, signed));
/** A number and its standard error, with as many digits as the larger one deserves. */
function withError(value, error, signed = false) {
  if (error === null || error === undefined || value === null) return number(value, signed);
  const digits = digitsOf(Math.max(Math.abs(value), error));
  return [make("data", { value }, told(value, signed, digits)), " ± ", make("data", { value: error }, told(error, false, digits))];
}
const probability = (value) => make("data", { value: value ?? "" }, value !== null && value < 0.01 ? "< 0.01" : told(value));
const counted = (count) => count.toLocaleString("en");
const className = (label) => data.classes[label];
const idOf = (kind, place) => String(kinds[kind].table.id[place]);
const nameOf = (kind, place) => kinds[kind].table.name?.[place] ?? `${kinds[kind].word} ${idOf(kind, place)}`;
const address = (kind, place) => `#${kind}=${encodeURIComponent(idOf(kind, place))}`;

/** Is the given label of a training example known to be wrong? */
function isWrong(place) {
  const original = data.training.original?.[place] ?? -1;
  return original >= 0 && original !== data.training.given[place];
}
const isMistake = (place) => data.targets.predicted !== undefined && data.targets.predicted[place] !== data.targets.label[place];
const labelOf = (kind, place) => (kind === "target" ? data.targets.label : data.training.given)[place];

/** What stands for an example where there are no pictures. */
const unseen = (kind, place) => !kinds[kind].images && make("span", { class: "name" }, kinds[kind].table.name?.[place] ?? idOf(kind, place));

/** What a reader of the screen hears of a picture. */
function described(kind, place) {
  if (kind === "target") {
    const taken = isMistake(place) ? `, taken for ${className(data.targets.predicted[place])}` : "";
    return `${nameOf(kind, place)}: ${className(labelOf(kind, place))}${taken}`;
  }
  const really = isWrong(place) ? `, wrongly labelled ${className(labelOf(kind, place))}` : "";
  const original = data.training.original?.[place] ?? -1;
  return `${nameOf(kind, place)}: ${className(original >= 0 ? original : labelOf(kind, place))}${really}`;
}

/** The picture of an example, drawn when its sheet is there; the first letters of its class where there are none. */
function picture(kind, place) {
  const images = kinds[kind].images;
  if (!images) {
    return make("span", { class: "picture letters", "aria-hidden": "true" }, [...className(labelOf(kind, place))].slice(0, 2).join(""));
  }
  const { width, height, columns } = images;
  const canvas = make("canvas", { class: "picture", role: "img", "aria-label": described(kind, place), width, height });
  if (Math.max(width, height) <= 40) canvas.classList.add("pixels");
  const cell = place % (columns * columns);
  const { image, ready } = images.sheets[Math.floor(place / (columns * columns))];
  const [x, y] = [(cell % columns) * width, Math.floor(cell / columns) * height];
  ready.then(() => canvas.getContext("2d").drawImage(image, x, y, width, height, 0, 0, width, height));
  return canvas;
}

/** The label that an example has, and what is wrong with it: by a mark and in words, not by colour alone. */
function labels(kind, place) {
  if (kind === "target") {
    return make("span", { class: "label" }, className(labelOf(kind, place)),
      isMistake(place) && make("span", { class: "wrong" }, `✗ taken for ${className(data.targets.predicted[place])}`));
  }
  return make("span", { class: "label" }, className(labelOf(kind, place)),
    isWrong(place) && make("span", { class: "wrong" }, `✗ is ${className(data.training.original[place])}`));
}
