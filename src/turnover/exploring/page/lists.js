// The list at the left: one of three views, filtered, sorted, a page at a time.
const PAGE = 60;
const table = data.training;
const by = (column, direction) => (a, b) => {
  const [one, other] = [column(a), column(b)];
  if (one === other) return a - b;
  if (one === null || one === undefined) return 1;
  if (other === null || other === undefined) return -1;
  return one < other ? -direction : direction;
};
const byId = { title: "id", of: (kind) => (place) => kinds[kind].table.id[place], up: true };
const views = {};
if (data.targets) {
  views.predictions = {
    title: "Predictions", kind: "target",
    intro: data.pairs ? "Choose one to see the training examples behind it." : "",
    sorts: [
      data.pairs && { title: "influence", of: () => influenced },
      data.targets.probability && { title: "probability", of: () => (place) => data.targets.probability[place], up: true },
      byId,
    ],
    shows: data.targets.predicted && { all: () => true, mistakes: isMistake, "right ones": (place) => !isMistake(place) },
  };
}
const gallery = (title, first, intro) => ({
  title, kind: "train", intro,
  sorts: [
    first === "suspicion" && table.suspicion && suspicious,
    table.memorization_loss && { title: "memorized, nats", of: () => (place) => table.memorization_loss[place] },
    table.memorization && { title: "memorized", of: () => (place) => table.memorization[place] },
    first !== "suspicion" && table.suspicion && suspicious,
    table.memorization_se && { title: "standard error", of: () => (place) => table.memorization_se[place] },
    byId,
  ],
  shows: trainingShows(),
});
const suspicious = { title: "suspicion", of: () => (place) => table.suspicion[place] };

function trainingShows() {
  const shows = { all: () => true };
  for (const kind of new Set(table.kind ?? [])) shows[`kind: ${kind}`] = (place) => table.kind[place] === kind;
  if (table.original) {
    shows["wrong labels"] = isWrong;
    shows["right labels"] = (place) => table.original[place] === table.given[place];
  }
  return Object.keys(shows).length > 1 && shows;
}

if (table.memorization) {
  views.memorized = gallery("Memorized", "memorization", "What the network holds of these it learned from them alone: rare examples, and wrong labels.");
}
if (table.suspicion) {
  views.suspects = gallery("Suspected labels", "suspicion", `The most suspect first, by ${data.suspicion}.`);
}
if (!table.memorization && !table.suspicion) views.training = gallery("Training examples", "", "");
for (const [name, view] of Object.entries(views)) {
  Object.assign(view, { name, sorts: view.sorts.filter(Boolean), ticked: new Set(), search: "", label: "", show: "all", sort: 0, shown: PAGE });
  if (view.shows && "mistakes" in view.shows && data.targets.predicted.some((_, place) => isMistake(place))) view.show = "mistakes";
  view.turned = Boolean(view.sorts[0].up); // ascending
}
let current = Object.keys(views)[0];
const byName = (id) => document.getElementById(id);

function listed(view) {
  const { kind } = view;
  const [rows, words] = [kinds[kind].table, view.search.trim().toLowerCase()];
  const places = rows.id.map((_, place) => place).filter((place) =>
    (!words || String(rows.id[place]).toLowerCase() === words || (rows.name ? rows.name[place].toLowerCase().includes(words) : String(rows.id[place]).startsWith(words))) &&
    (view.label === "" || labelOf(kind, place) === Number(view.label)) &&
    (!view.shows || view.shows[view.show](place)));
  return places.sort(by(view.sorts[view.sort].of(kind), view.turned ? 1 : -1));
}

function select(title, options, value, change) {
  return make("label", {}, make("span", {}, title),
    make("select", { change: (event) => { change(event.target.value); views[current].shown = PAGE; fill(); } },
      options.map(([key, text]) => make("option", { value: key, selected: String(key) === String(value) }, text))));
}

/** The filters of a view; made once for each change of view, so that typing keeps its place. */
function filters() {
  const view = views[current];
  const classes = [["", "all classes"], ...data.classes.map((name, label) => [label, name])];
  const turn = make("button", { type: "button", class: "turn", click: () => { view.turned = !view.turned; tell(); fill(); } });
  const tell = () => {
    turn.textContent = view.turned ? "↑" : "↓";
    turn.setAttribute("aria-label", view.turned ? "ascending; turn round" : "descending; turn round");
  };
  tell();
  byName("filters").replaceChildren(...[
    make("label", { class: "wide" }, make("span", {}, "Search"), make("input", {
      type: "search", placeholder: kinds[view.kind].table.name ? "id or name" : "id", value: view.search, autocomplete: "off", enterkeyhint: "search",
      input: (event) => { view.search = event.target.value; view.shown = PAGE; fill(); },
    })),
    view.shows && select("Show", Object.keys(view.shows).map((key) => [key, key]), view.show, (value) => { view.show = value; }),
    select("Class", classes, view.label, (value) => { view.label = value; }),
    make("span", { class: "sort" }, select("Sort by", view.sorts.map((sort, place) => [place, sort.title]), view.sort, (value) => {
      view.sort = Number(value); view.turned = Boolean(view.sorts[value].up); tell();
    }), turn),
    view.kind === "train" && make("button", { type: "button", id: "download", click: download }),
  ].filter(Boolean));
}

/** What a card says below its labels: the number that the list is sorted by, or else the first. */
function valueOf(view, place) {
  const sort = view.sorts[view.sort] === byId ? view.sorts[0] : view.sorts[view.sort];
  if (sort === byId) return null;
  return make("span", { class: "value", title: sort.title }, number(sort.of(view.kind)(place)));
}

function card(view, place) {
  const { kind } = view;
  return make("li", { class: kind === "train" && isWrong(place) ? "differs" : null },
    make("a", { href: address(kind, place), tabindex: -1, title: nameOf(kind, place), "aria-label": described(kind, place) },
      picture(kind, place), unseen(kind, place), labels(kind, place), valueOf(view, place)),
    kind === "train" && make("input", {
      type: "checkbox", tabindex: -1, "aria-label": `select ${nameOf(kind, place)}`, title: "select for the csv (space)", checked: view.ticked.has(place),
      change: (event) => { event.target.checked ? view.ticked.add(place) : view.ticked.delete(place); count(view); },
    }));
}

let inOrder = [];
function fill() {
  const view = views[current];
  inOrder = listed(view);
  byName("cards").replaceChildren(...inOrder.slice(0, view.shown).map((place) => card(view, place)));
  byName("more").hidden = inOrder.length <= view.shown;
  count(view);
  mark();
}

function count(view) {
  const all = kinds[view.kind].table.id.length;
  const word = `${kinds[view.kind].word}s`;
  const ticked = view.ticked.size ? `, ${counted(view.ticked.size)} selected` : "";
  byName("count").textContent = `${inOrder.length === all ? counted(all) : `${counted(inOrder.length)} of ${counted(all)}`} ${word}${ticked}. ${view.intro}`;
  if (byName("download")) byName("download").textContent = view.ticked.size ? `Download csv (${counted(view.ticked.size)} selected)` : `Download csv (${counted(inOrder.length)})`;
}

/** Mark the card of the example that is shown; it, or the first, is where Tab enters the list. */
function mark() {
  const links = [...byName("cards").querySelectorAll("a")];
  for (const link of links) {
    link.tabIndex = -1;
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  const entered = links.find((link) => link.hasAttribute("aria-current")) ?? links[0];
  if (entered) entered.tabIndex = 0;
}

/** The chosen examples, or else all that are listed, in their order. */
function download() {
  const view = views[current];
  const places = view.ticked.size ? [...view.ticked].sort((a, b) => a - b) : inOrder;
  const columns = Object.keys(table);
  const cell = (column, value) => {
    const text = value === null || value === undefined ? "" : ["given", "original", "suggested"].includes(column) ? className(value) ?? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.join(","), ...places.map((place) => columns.map((column) => cell(column, table[column][place])).join(","))];
  const link = make("a", { href: URL.createObjectURL(new Blob(["\ufeff", lines.join("\r\n"), "\r\n"], { type: "text/csv" })), download: `${view.name}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
