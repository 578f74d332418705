// A new image: dropped on the page or chosen, sent to where the page came from, and answered in the place of an example.
"use strict";
{
  const NEW = "#new";
  let asked = null; // { file, answer }
  let turn = 0; // of two questions, the later one's answer is shown
  const { width = 0, height = 0 } = kinds.train.images ?? {};
  const look = Math.max(width, height) <= 40 ? "picture pixels" : "picture"; // as of those on the page

  const status = make("p", { class: "small", role: "status" });
  const chooser = make("input", { type: "file", accept: "image/*", change: () => chooser.files[0] && ask(chooser.files[0]) });
  byName("about").after(make("form", { id: "ask" },
    make("label", {}, make("span", {}, "A new image: drop it on this page, or choose one"), chooser), status));

  function say(text, failed = false) {
    status.textContent = text;
    status.classList.toggle("failed", failed);
  }

  async function ask(file, label = null) {
    const mine = ++turn;
    say(`Asking about ${file.name} …`);
    let answer;
    try {
      const response = await fetch(label === null ? "ask" : `ask?label=${label}`, {
        method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file,
      });
      answer = await response.json();
      if (!response.ok) throw new Error(answer.error);
    } catch (error) {
      if (mine === turn) say(error instanceof TypeError ? "The server does not answer: is it still running?" : `${file.name}: ${error.message}.`, true);
      return;
    }
    if (mine !== turn) return;
    asked = { file, answer };
    const done = answer.done.length ? ` (${answer.done.join("; ")})` : "";
    say(`${file.name}: ${className(answer.predicted)}${done}.`);
    if (location.hash === NEW) show();
    else location.hash = NEW;
  }

  /** A line of a list of neighbours; a link where the page shows that example. */
  function line(row, largest) {
    const place = kinds.train.place.get(row.id);
    const wrong = row.original >= 0 && row.original !== row.given;
    const name = row.name ?? `${kinds.train.word} ${row.id}`;
    const image = make("img", { class: look, src: row.picture, alt: `${name}: ${className(wrong ? row.original : row.given)}${wrong ? `, wrongly labelled ${className(row.given)}` : ""}` });
    const parts = [image, make("span", { class: "what" },
      make("span", { class: "label" }, className(row.given), wrong && make("span", { class: "wrong" }, `✗ is ${className(row.original)}`)),
      bar(row.influence, row.influence_se, largest),
      make("span", { class: "value" }, withError(row.influence, row.influence_se, true),
        row.agree !== undefined && make("span", { class: "agree" }, ` ${row.agree} of ${data.networks} agree`)))];
    return make("li", { class: wrong ? "differs" : null },
      place === undefined ? make("span", { class: "plain", title: name }, parts) : make("a", { href: address("train", place), title: name }, parts));
  }

  function list(kind, title, rows, largest) {
    const wrong = rows.filter((row) => row.original >= 0 && row.original !== row.given).length;
    return make("section", { class: kind },
      make("h3", {}, make("span", {}, make("span", { "aria-hidden": "true" }, kind === "harmful" ? "▼ " : "▲ "), title), wrong > 0 && make("span", { class: "small" }, `${wrong} wrong label${wrong > 1 ? "s" : ""}`)),
      rows.length ? make("ul", { class: "rows", "data-arrows": true }, rows.map((row) => line(row, largest))) : make("p", { class: "small" }, "None."));
  }

  /** Which class is to be explained: the predicted one, or another. */
  function chosenClass(answer) {
    return make("select", { "aria-label": "Explain the probability of", change: (event) => ask(asked.file, event.target.value) },
      data.classes.map((name, label) => make("option", { value: label, selected: label === answer.label }, name)));
  }

  function show() {
    const { file, answer } = asked;
    const rows = [...answer.helpful, ...answer.harmful];
    const largest = Math.max(...rows.map((row) => Math.abs(row.influence) + (row.influence_se ?? 0)));
    const second = answer.probabilities.map((value, label) => [value, label]).sort(([a], [b]) => b - a)[1];
    const image = make("img", { class: look, src: answer.picture, alt: `${file.name}, as the network sees it` });
    document.body.classList.add("open");
    byName("detail").replaceChildren(
      make("header", {}, make("button", { type: "button", class: "back", click: back }, "‹ Back"), image,
        make("div", {}, make("p", { class: "small" }, "New image"), make("p", { class: "small" }, file.name),
          make("h2", { tabindex: -1 }, className(answer.predicted))),
        make("dl", {},
          fact("Probability", probability(answer.probabilities[answer.predicted])),
          second && fact("Next", `${className(second[1])} `, probability(second[0])),
          fact("Explained", chosenClass(answer)))),
      make("div", { class: "both" },
        list("helpful", `Spoke for ${className(answer.label)}`, answer.helpful, largest),
        list("harmful", `Spoke against ${className(answer.label)}`, answer.harmful, largest)),
      data.pairs ? howSure() : "");
    mark();
  }

  window.addEventListener("hashchange", () => { if (location.hash === NEW && asked) show(); });
  wide.addEventListener("change", () => { if (location.hash === NEW && asked) show(); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) ask(file);
  });
  byName("ask").addEventListener("submit", (event) => event.preventDefault());
}
