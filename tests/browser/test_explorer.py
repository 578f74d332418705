"""The explorer in a real browser: what it shows are the numbers and images that it was given."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit.study.fake_runs import REPOSITORY, make_repository, make_results
from tests.unit.turnover.exploring.made import (
    CLASSES,
    EPOCHS,
    NETWORKS,
    PLACEBOS,
    SCRIPT,
    TARGETS,
    TRAIN,
    make_explorer,
)
from turnover.exploring.explorer import Explorer
from turnover.exploring.writing import write_explorer

# Its assertions wait; `page.wait_for_function` would evaluate strings, which the page's own policy forbids.
expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = pytest.mark.browser
SHOWN = 8  # helpful and harmful examples, at most
EXPLORER = make_explorer()
assert EXPLORER.targets is not None and EXPLORER.pairs is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    write_explorer(EXPLORER, path)
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_repository(tmp_path_factory.mktemp("study"), placements=("head", "dropout"))
    return make_results(root) / "reports/explorer.html"


@pytest.fixture(params=["make-believe", "study", "committed"])
def page_path(request: pytest.FixtureRequest) -> Path:
    if request.param == "committed":
        path = REPOSITORY / "reports/explorer.html"
        if not path.exists():
            pytest.skip("reports/explorer.html was not made yet: `make repro` makes it")
        return path
    found: Path = request.getfixturevalue("made" if request.param == "make-believe" else "study")
    return found


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Opens a page without network; at the end nothing went wrong in it, and nothing was asked for."""
    contexts, wrong = [], []

    def open_page(path: Path, address: str = "", *, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                wrong.append(request.url)
                if not request.url.startswith(("data:", "blob:")) and request.url.partition("#")[0] != path.as_uri()
                else None
            ),
        )
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def cards(page: Any) -> list[int]:
    """The ids in the list, in order."""
    addresses = page.locator("#cards a").evaluate_all("of => of.map(a => a.getAttribute('href'))")
    return [int(address.partition("=")[2]) for address in addresses]


def shown_pairs(page: Any, side: str) -> list[tuple[int, float, float, str]]:
    """Id, influence, standard error and agreement of each line of a list."""
    lines = page.locator(f"#detail .{side} li").evaluate_all(
        "of => of.map(li => [li.querySelector('a').getAttribute('href'),"
        " ...[...li.querySelectorAll('data')].map(d => d.value), li.querySelector('.agree').textContent])"
    )
    return [(int(a.partition("=")[2]), float(value), float(error), agree.strip()) for a, value, error, agree in lines]


def pixels(page: Any, selector: str) -> np.ndarray:
    """What the first canvas of a kind shows: uint8 [height, width, 3]."""
    found, width, height = page.evaluate(
        """async (selector) => {
            const shown = document.querySelector(selector);
            const copy = new OffscreenCanvas(shown.width, shown.height).getContext('2d', {willReadFrequently: true});
            for (let tries = 0; tries < 100; tries++) {  // until its sheet was decoded
                copy.drawImage(shown, 0, 0);
                const { data } = copy.getImageData(0, 0, shown.width, shown.height);
                if (data.some(value => value)) return [[...data], shown.width, shown.height];
                await new Promise(done => setTimeout(done, 50));
            } }""",
        selector,
    )
    return np.array(found, np.uint8).reshape(height, width, 4)[:, :, :3]


def same_pairs(page: Any, pairs: pd.DataFrame, other: str) -> None:
    """Both lists are the strongest of `pairs`, in order, with their numbers."""
    for side, sign in (("helpful", 1), ("harmful", -1)):
        expected = pairs[np.sign(pairs["influence"]) == sign]
        expected = expected.loc[expected["influence"].abs().sort_values(ascending=False).index].head(SHOWN)
        found = shown_pairs(page, side)
        assert [row[0] for row in found] == expected[other].tolist()
        np.testing.assert_allclose([row[1] for row in found], expected["influence"], rtol=1e-3)
        np.testing.assert_allclose([row[2] for row in found], expected["influence_se"], rtol=1e-3)
        assert [row[3] for row in found] == [f"{agree} of {NETWORKS} agree" for agree in expected["agree"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_view_fits_the_screen(opened: Opened, page_path: Path, width: int, scheme: str) -> None:
    page = opened(page_path, width=width, scheme=scheme)
    views = page.locator("#views a").evaluate_all("of => of.map(a => a.getAttribute('href'))")
    assert views == ["#view=predictions", "#view=memorized", "#view=suspects"]
    page.evaluate("location.hash = '#view=predictions'")
    first = page.locator("#cards a").first
    first.wait_for()
    examples = [first.get_attribute("href")]
    for view in views[1:]:
        page.locator(f"#views a[href='{view}']").click()
        page.locator(f"#views a[href='{view}'][aria-current]").wait_for()
        examples.append(page.locator("#cards a").first.get_attribute("href"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [address.partition("=")[0] for address in examples] == ["#target", "#train", "#train"]
    for address in examples:
        page.evaluate("address => { location.hash = address }", address)
        expect(page.locator("#detail .small").first).to_have_text(re.compile(f" {address.partition('=')[2]}$"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.evaluate(
            "w => [...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && !e.closest('.scroll') &&"
            " e.getBoundingClientRect().right > w + 0.5).map(e => e.outerHTML.slice(0, 80))",
            width,
        )
        assert outside == []
        assert page.locator("#list").is_visible() == (width == 1280)


def test_names_are_text(opened: Opened, made: Path) -> None:
    page = opened(made)
    assert page.locator("h1").inner_text() == f"An {SCRIPT} audit"
    assert page.locator("#about p").first.inner_text() == f"A sentence with {SCRIPT}."
    options = page.locator("#filters label", has_text="Class").locator("option").all_inner_texts()
    assert [" ".join(of.split()) for of in options] == ["all classes", *(" ".join(of.split()) for of in CLASSES)]
    assert page.locator("img, h1 *, #about p *:not(a)").count() == 0
    assert page.locator("#about a").get_attribute("href") == "suspects.csv"


def test_twenty_targets_show_their_numbers_and_images(opened: Opened, made: Path) -> None:
    page = opened(made)
    targets, pairs, images = EXPLORER.targets, EXPLORER.pairs, EXPLORER.target_images
    assert targets is not None and pairs is not None and images is not None
    for place in np.random.default_rng(1).choice(TARGETS, 20, replace=False):
        row = targets.astype(object).iloc[int(place)]
        page.evaluate("address => { location.hash = address }", f"#target={row['id']}")
        expect(page.locator("#detail .small").first).to_have_text(f"Held-out example {row['id']}")
        head = page.locator("#detail > header")
        assert CLASSES[int(row["label"])] in head.locator("h2").evaluate("h => h.textContent")
        assert ("✗ taken for" in head.inner_text()) == (row["label"] != row["predicted"])
        assert float(head.locator("data").get_attribute("value")) == pytest.approx(row["probability"], rel=1e-3)
        assert f"{int(row['wrong_networks'])} of {NETWORKS} networks" in head.inner_text()
        same_pairs(page, pairs[pairs["target"] == row["id"]], "example")
        np.testing.assert_array_equal(pixels(page, "#detail > header canvas"), images[place].transpose(1, 2, 0))


def test_twenty_training_examples_show_their_numbers_and_images(opened: Opened, made: Path) -> None:
    page = opened(made)
    training, pairs, images = EXPLORER.training, EXPLORER.pairs, EXPLORER.training_images
    assert pairs is not None and images is not None
    for place in np.random.default_rng(2).choice(TRAIN, 20, replace=False):
        row = training.iloc[int(place)]
        page.evaluate("address => { location.hash = address }", f"#train={row['id']}")
        expect(page.locator("#detail .small").first).to_have_text(f"Training example {row['id']}")
        head = page.locator("#detail > header")
        assert ("✗ is" in head.inner_text()) == (row["given"] != row["original"])
        assert row["kind"] in head.inner_text()
        values = [float(of) for of in head.locator("data").evaluate_all("of => of.map(d => d.value)")]
        columns = ["memorization", "memorization_se", "memorization_loss", "suspicion"]
        np.testing.assert_allclose(values, row[columns].astype(float), rtol=1e-3)
        table = page.locator("#detail table tbody data").evaluate_all("of => of.map(d => Number(d.value))")
        curves = np.stack([EXPLORER.curves[of][place] for of in ("exposed", "flipped", "full")], axis=1)
        np.testing.assert_allclose(np.reshape(table, (len(EPOCHS), 3)), curves, atol=1e-4)
        smaller = int((np.asarray(EXPLORER.placebos) < row["memorization"]).sum())
        words = f"all {PLACEBOS}" if smaller == PLACEBOS else f"{smaller} of {PLACEBOS}"
        assert f"larger than that of {words} placebos" in page.locator("#detail figure").nth(1).inner_text()
        same_pairs(page, pairs[pairs["example"] == row["id"]], "target")
        np.testing.assert_array_equal(pixels(page, "#detail > header canvas"), images[place].transpose(1, 2, 0))


def test_filters_and_sorting_of_predictions(opened: Opened, made: Path) -> None:
    page = opened(made)
    targets, pairs = EXPLORER.targets, EXPLORER.pairs
    assert targets is not None and pairs is not None
    strength = pairs.assign(size=pairs["influence"].abs()).groupby("target")["size"].sum()
    mistakes = targets[targets["label"] != targets["predicted"]]
    assert cards(page) == strength[mistakes["id"]].sort_values(ascending=False).index.tolist()
    show, label, sort = (page.locator("#filters label", has_text=text).locator("select") for text in
                         ("Show", "Class", "Sort by"))  # fmt: skip
    sort.select_option(label="probability")
    assert cards(page) == mistakes.sort_values("probability")["id"].tolist()
    page.locator(".turn").click()
    assert cards(page) == mistakes.sort_values("probability", ascending=False)["id"].tolist()
    label.select_option("1")
    assert cards(page) == mistakes[mistakes["label"] == 1].sort_values("probability", ascending=False)["id"].tolist()
    show.select_option("all")
    sort.select_option(label="id")
    assert cards(page) == targets[targets["label"] == 1]["id"].tolist()
    label.select_option("")
    assert page.locator("#count").inner_text().startswith(f"{TARGETS} held-out examples")
    assert len(cards(page)) == 60
    page.locator("#more").click()
    assert cards(page) == targets["id"].tolist()
    page.get_by_label("Search").fill("17")
    assert cards(page) == [17]
    page.get_by_label("Search").press("Enter")
    expect(page).to_have_url(re.compile("#target=17$"))


def test_galleries_and_the_csv_of_a_selection(opened: Opened, made: Path) -> None:
    page = opened(made, "#view=suspects")
    training = EXPLORER.training
    assert cards(page) == training.sort_values("suspicion", ascending=False)["id"].tolist()[:60]
    page.locator("#filters label", has_text="Show").locator("select").select_option("wrong labels")
    wrong = training[training["given"] != training["original"]].sort_values("suspicion", ascending=False)
    assert cards(page) == wrong["id"].tolist()
    assert page.locator("#cards li.differs").count() == len(wrong)

    def downloaded() -> list[dict[str, str]]:
        with page.expect_download() as found:
            page.locator("#download").click()
        assert found.value.suggested_filename == "suspects.csv"
        return list(csv.DictReader(io.StringIO(Path(found.value.path()).read_bytes().decode("utf-8-sig"), newline="")))

    rows = downloaded()
    assert [int(row["id"]) for row in rows] == wrong["id"].tolist()
    assert [row["given"] for row in rows] == [CLASSES[label] for label in wrong["given"]]
    np.testing.assert_allclose([float(row["suspicion"]) for row in rows], wrong["suspicion"], rtol=1e-3)
    page.locator("#cards input").nth(2).check()
    page.locator("#cards input").nth(0).check()
    assert page.locator("#download").inner_text() == "Download csv (2 selected)"
    assert {int(row["id"]) for row in downloaded()} == {*wrong["id"].iloc[[0, 2]]}
    page.locator("#views a", has_text="Memorized").click()
    assert cards(page) == training.sort_values("memorization_loss", ascending=False)["id"].tolist()[:60]


def test_addresses_lead_to_examples_and_back(opened: Opened, made: Path) -> None:
    page = opened(made, "#target=17", width=390, height=844)
    detail = page.locator("#detail .small").first
    assert detail.inner_text() == "Held-out example 17"
    page.locator("#detail .helpful a").first.click()
    page.locator("#detail .small", has_text="Training example ").first.wait_for()
    assert page.evaluate("location.hash").startswith("#train=")
    page.locator(".back").click()
    page.locator("#detail .small", has_text="Held-out example 17").first.wait_for()
    assert page.evaluate("location.hash") == "#target=17"
    other = opened(made, "#train=99999")
    assert "There is no training example “99999” on this page." in other.locator("#detail").inner_text()
    assert "There is no" not in opened(made, "#target=%E0%A4%A").locator("h1").inner_text()


def test_everything_can_be_done_by_keys(opened: Opened, made: Path) -> None:
    page = opened(made)
    at = "document.activeElement.getAttribute('href')"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    order = page.locator("#cards a").evaluate_all("of => of.map(a => a.getAttribute('href'))")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#cards') !== null"):
            break
    assert page.evaluate(at) == order[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(at) == order[2]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowDown")
    below = order.index(page.evaluate(at))
    assert below > 3
    page.keyboard.press("ArrowUp")
    assert page.evaluate(at) == order[2]
    page.keyboard.press("End")
    assert page.evaluate(at) == order[-1]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"{order[1]}$"))
    expect(page.locator("#detail h2").first).to_be_focused()
    assert page.locator("#cards a[aria-current]").get_attribute("href") == order[1]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('.rows') !== null")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("^[^#]*$"))


def test_pictures_and_controls_have_names_and_texts_have_contrast(opened: Opened, made: Path) -> None:
    for scheme in ("light", "dark"):
        page = opened(made, "#train=1000", scheme=scheme)
        nameless = page.evaluate(
            "[...document.querySelectorAll('canvas, svg[role=img], input, select, button, a')].filter(e =>"
            " !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length"
        )
        assert nameless == 0
        contrasts = page.evaluate("""() => {
            const light = (colour) => colour.match(/\\d+/g).slice(0, 3).map(v => v / 255)
                .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
            const behind = (e) => { for (; e; e = e.parentElement) {
                const back = getComputedStyle(e).backgroundColor;
                if (!back.startsWith('rgba(0, 0, 0, 0')) return back; } };
            return ['h1', '#about p', '#views a', '#count', '.label', '.wrong', '.value', '.small', 'dt', 'dd', 'h3',
                    'figcaption', '.agree', 'summary'].map(s => [s, document.querySelector(s)]).map(([s, e]) => {
                const [a, b] = [light(getComputedStyle(e).color), light(behind(e))];
                return [s, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; }) }""")
        assert min(contrast for _, contrast in contrasts) >= 4.5, contrasts


def test_much_may_be_missing(opened: Opened, tmp_path: Path) -> None:
    """An audit of embeddings: names as ids, no images, no curves, one network."""
    names = ["a b/ü#1.png", "x&y=<b>.png", "c%20d.png"]
    training = pd.DataFrame(
        {"id": names, "name": names, "given": [0, 1, 0], "suspicion": [0.2, np.nan, 0.9], "suggested": [1, 1, 1]}
    )
    write_explorer(Explorer("mine", ["cat", "dog"], training), tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    assert page.locator("#views a").all_inner_texts() == ["Suspected labels"]
    found = page.locator("#cards a").evaluate_all("of => of.map(a => a.title)")
    assert found == [names[2], names[0], names[1]]
    for name in names:
        page.locator(f'#cards a[title="{name}"]').click()
        page.locator("#detail > header .small", has_text=f"Training example {name}").wait_for()
        again = opened(tmp_path / "page.html", page.evaluate("location.hash"))
        assert again.locator("#detail > header .small").first.inner_text() == f"Training example {name}"
    training = pd.DataFrame({"id": [1, 2], "given": [0, 1]})
    targets = pd.DataFrame({"id": [1], "label": [1]})
    pairs = pd.DataFrame({"target": [1, 1], "example": [1, 2], "influence": [0.5, -0.25]})
    write_explorer(Explorer("mine", ["cat", "dog"], training, targets, pairs), tmp_path / "other.html")
    page = opened(tmp_path / "other.html")
    assert page.locator("#views a").all_inner_texts() == ["Predictions", "Training examples"]
    assert page.locator("#detail .helpful data").get_attribute("value") == "0.5"
    assert "tells no error" in page.locator("#detail").inner_text()
    page.locator("#detail .harmful a").click()
    page.locator("#detail .small", has_text="Training example 2").wait_for()
    assert page.locator("#detail .harmful data").get_attribute("value") == "-0.25"
