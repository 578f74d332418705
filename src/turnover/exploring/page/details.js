// The example that was chosen, and how one gets from one to the other: addresses, clicks, keys.
const SHOWN = 8; // of each sign

/** A line of a list of neighbours. */
function neighbour(kind, pair, largest) {
  const { influence, influence_se: errors, agree } = data.pairs;
  const place = data.pairs[kind === "train" ? "example" : "target"][pair];
  return make("li", { class: kind === "train" && isWrong(place) ? "differs" : null },
    make("a", { href: address(kind, place), title: nameOf(kind, place) }, picture(kind, place),
      make("span", { class: "what" }, unseen(kind, place), labels(kind, place), bar(influence[pair], errors?.[pair], largest),
        make("span", { class: "value" }, withError(influence[pair], errors?.[pair], true),
          agree && make("span", { class: "agree" }, ` ${agree[pair]} of ${data.networks} agree`)))));
}

function neighbours(kind, place, titles) {
  const pairs = pairsOf[kind].get(place) ?? [];
  const other = kind === "target" ? "train" : "target";
  const signed = [pairs.filter((pair) => data.pairs.influence[pair] > 0), pairs.filter((pair) => data.pairs.influence[pair] < 0)].map((of) => of.slice(0, SHOWN));
  const largest = Math.max(...signed.flat().map((pair) => Math.abs(data.pairs.influence[pair]) + (data.pairs.influence_se?.[pair] ?? 0)));
  return make("div", { class: "both" }, signed.map((of, negative) =>
    make("section", { class: negative ? "harmful" : "helpful" }, make("h3", {}, make("span", {}, make("span", { "aria-hidden": "true" }, negative ? "▼ " : "▲ "), titles[negative]), other === "train" && wrongAmong(of.map((pair) => data.pairs.example[pair]))),
      of.length ? make("ul", { class: "rows", "data-arrows": true }, of.map((pair) => neighbour(other, pair, largest))) : make("p", { class: "small" }, "None."))));
}

function wrongAmong(places) {
  const wrong = places.filter(isWrong).length;
  return wrong > 0 && make("span", { class: "small" }, `${wrong} wrong label${wrong > 1 ? "s" : ""}`);
}

function howSure() {
  const parts = [`Influence ${data.influence}: positive helps.`];
  if (data.pairs.influence_se) parts.push(`Mean over ${data.networks} networks ± standard error (the whisker); hollow bars are less than two of these from 0.`);
  if (data.pairs.agree) parts.push(`“${data.networks} of ${data.networks} agree”: so many networks give that sign.`);
  if (data.networks === 1) parts.push("Of one network, which tells no error.");
  return make("p", { class: "small" }, parts.join(" "));
}

function head(kind, place, ...facts) {
  const { word, table: { name: names } } = kinds[kind];
  const name = names?.[place];
  return make("header", {}, make("button", { type: "button", class: "back", click: back }, "‹ Back"), picture(kind, place),
    make("div", {}, make("p", { class: "small" }, `${word[0].toUpperCase()}${word.slice(1)} ${idOf(kind, place)}`),
      name !== undefined && name !== idOf(kind, place) && make("p", { class: "small" }, name),
    make("h2", { tabindex: -1 }, labels(kind, place))), make("dl", {}, facts.filter(Boolean)));
}
const fact = (term, ...values) => make("div", {}, make("dt", {}, term), make("dd", {}, values));

function targetDetail(place) {
  const { probability: likely, wrong_networks: wrong, predicted } = data.targets;
  return [
    head("target", place,
      predicted && fact("Prediction", className(predicted[place])),
      likely && fact("Probability of the label", probability(likely[place])),
      wrong && data.networks > 1 && fact("Wrong in", `${wrong[place]} of ${data.networks} networks`)),
    data.pairs && neighbours("target", place, ["Most helpful examples", "Most harmful examples"]),
    data.pairs && howSure(),
  ];
}

function trainDetail(place) {
  const { memorization, memorization_se: errors, memorization_loss: nats, suspicion, suggested, kind } = data.training;
  return [
    head("train", place,
      kind && fact("Kind", kind[place]),
      memorization && fact("Memorization", withError(memorization[place], errors?.[place])),
      nats && fact("in nats", number(nats[place])),
      suspicion && fact(data.suspicion[0].toUpperCase() + data.suspicion.slice(1), number(suspicion[place])),
      suggested && fact("Suggested label", className(suggested[place]))),
    make("div", { class: "both" },
      data.curves && make("figure", {}, make("figcaption", {}, make("h3", {}, "How it was learned"), "Probability of its given label"), curveKey(), learningCurve(place), curveTable(place)),
      data.placebos?.length && memorization?.[place] != null && make("figure", {}, make("figcaption", {}, make("h3", {}, "Is it memorized?"), `Memorization ${placeboWords(place)}, which no network was trained on`), placeboFigure(place))),
    data.pairs && make("h2", { class: "sub" }, "What it influences"),
    data.pairs && neighbours("train", place, ["Predictions it helped", "Predictions it harmed"]),
    data.pairs && howSure(),
  ];
}

function curveTable(place) {
  const names = Object.keys(data.curves);
  const values = names.map((name) => curveOf(name, place));
  return make("details", {}, make("summary", {}, "As a table"), make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Epoch"), names.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, data.epochs.map((epoch, row) => make("tr", {}, make("th", { scope: "row" }, epoch), values.map((of) => make("td", {}, number(of[row])))))))));
}

/** What the address names: an example, a view, or nothing that there is. */
function named() {
  const [, key, value] = /^#(\w+)=(.*)$/s.exec(location.hash) ?? [];
  let id = value;
  try { id = decodeURIComponent(value); } catch { /* a broken address names nothing */ }
  if (key === "view") return { view: id in views ? id : current };
  if (key in kinds && kinds[key].place.has(id)) return { kind: key, place: kinds[key].place.get(id) };
  return key ? { unknown: id, kind: key } : {};
}

const wide = matchMedia("(min-width: 60rem)");
let steps = 0; // within this page
const back = () => (steps > 0 ? history.back() : (location.hash = `#view=${current}`));

function route() {
  const to = named();
  const before = current;
  if (to.view) current = to.view;
  else if (to.place !== undefined && views[current].kind !== to.kind && steps === 0) {
    current = Object.keys(views).find((name) => views[name].kind === to.kind) ?? current;
  }
  if (current !== before || !byName("filters").childElementCount) { tabs(); filters(); fill(); }
  let chosen = to.place === undefined ? null : to;
  if (!chosen && wide.matches && inOrder.length && to.unknown === undefined) chosen = { kind: views[current].kind, place: inOrder[0] };
  document.body.classList.toggle("open", to.place !== undefined || to.unknown !== undefined);
  const detail = byName("detail");
  if (chosen) detail.replaceChildren(...(chosen.kind === "target" ? targetDetail : trainDetail)(chosen.place).filter(Boolean));
  else detail.replaceChildren(make("button", { type: "button", class: "back", click: back }, "‹ Back"),
    make("p", {}, to.unknown !== undefined ? `There is no ${kinds[to.kind]?.word ?? "example"} “${to.unknown}” on this page.` : "Nothing is listed."));
  mark();
  return to;
}

function tabs() {
  byName("views").replaceChildren(...Object.values(views).map((view) =>
    make("a", { href: `#view=${view.name}`, "aria-current": view.name === current ? "page" : null }, view.title)));
}

/** Arrow keys go from card to card: left and right in their order, up and down by where they stand. */
function arrows(event) {
  const list = event.target.closest?.("#cards, [data-arrows]");
  if (!list || !["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", " "].includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  if (event.key === " ") { link.parentElement.querySelector("input")?.click(); return; }
  const links = [...list.querySelectorAll("a")];
  const at = links.indexOf(link);
  const box = link.getBoundingClientRect();
  const beyond = (sign) => {
    const found = links.filter((other) => sign * (other.getBoundingClientRect().top - box.top) > 2);
    const first = sign > 0 ? found[0] : found[found.length - 1];
    const row = found.filter((other) => Math.abs(other.getBoundingClientRect().top - first.getBoundingClientRect().top) < 2);
    return row.sort((a, b) => Math.abs(a.getBoundingClientRect().left - box.left) - Math.abs(b.getBoundingClientRect().left - box.left))[0];
  };
  const next = { ArrowLeft: links[at - 1], ArrowRight: links[at + 1], ArrowUp: beyond(-1), ArrowDown: beyond(1), Home: links[0], End: links[links.length - 1] }[event.key];
  if (!next) return;
  if (list.id === "cards") { link.tabIndex = -1; next.tabIndex = 0; }
  next.focus();
}

document.addEventListener("keydown", (event) => {
  arrows(event);
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key === "/" && !typing) { event.preventDefault(); byName("filters").querySelector("input").focus(); }
  if (event.key === "Escape" && document.body.classList.contains("open")) back();
});
byName("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  const first = byName("cards").querySelector("a");
  if (first) location.hash = first.getAttribute("href"); // Enter in the search shows the first that was found
});
byName("more").addEventListener("click", () => {
  const view = views[current];
  const from = view.shown;
  view.shown += 2 * PAGE;
  fill();
  byName("cards").querySelectorAll("a")[from]?.focus();
});
window.addEventListener("hashchange", () => {
  steps += 1;
  const to = route();
  const heading = byName("detail").querySelector("h2");
  if (to.place !== undefined && heading) heading.focus({ preventScroll: wide.matches });
  if (!wide.matches && to.place !== undefined) scrollTo(0, 0);
  else byName("detail").scrollTop = 0;
});
wide.addEventListener("change", route);

byName("about").append(...data.about.map((sentence) => make("p", {}, sentence)),
  ...(data.links.length ? [make("p", { class: "links" }, data.links.map(([text, to]) => make("a", { href: to }, text)))] : []));
route();
