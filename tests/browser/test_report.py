"""The report in a real browser: nothing fetched, nothing broken, nothing wider than the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.report.render import FOLDED, SHOWN
from tests.unit.study.fake_runs import REPOSITORY, make_repository, make_results

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_repository(tmp_path_factory.mktemp("study"), placements=("head", "dropout"))
    return make_results(root) / "reports/index.html"


@pytest.fixture(params=["make-believe", "committed"])
def page_path(request: pytest.FixtureRequest, made: Path) -> Path:
    committed = REPOSITORY / "reports/index.html"
    if request.param == "make-believe":
        return made
    if not committed.exists():
        pytest.skip("reports/index.html was not made yet: `make repro` makes it")
    return committed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_report_in_a_browser(browser: Any, page_path: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_path.as_uri())

    assert messages == []
    # The page itself is the one thing read; data: addresses are inside it.
    assert [url for url in requests if not url.startswith("data:")] == [page_path.as_uri()]
    assert page.locator("h1").count() == 1
    assert set(page.locator("section h2").all_inner_texts()) <= set(SHOWN.values())
    folded = page.locator("summary h2").all_inner_texts()
    assert set(folded) <= set(FOLDED.values())
    assert page.locator("nav a").all_inner_texts() == folded
    page.locator("nav a").first.click()  # unfolds what it leads to
    assert page.locator("#statistics table").is_visible()

    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) > 8
    assert min(widths) > 0
    heights = page.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)")
    assert len(heights) > 5
    assert min(heights) > 80
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Nothing sticks out of the column either, other than what scrolls inside its own frame.
    outside = page.evaluate(
        "w => [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') &&"
        " e.getBoundingClientRect().right > w + 0.5).map(e => e.outerHTML.slice(0, 80))",
        width,
    )
    assert outside == []
    context.close()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_first_view_holds_the_verdicts_and_a_figure(browser: Any, page_path: Path, width: int, height: int) -> None:
    """Every verdict, and the upper panel of the first figure, before anybody scrolls."""
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(page_path.as_uri())
    bottom = "e => e.getBoundingClientRect().bottom"
    assert page.locator(".claims .badge").count() > 0
    assert max(page.locator(".claims .badge").evaluate_all(f"of => of.map({bottom})")) < height
    figure = page.locator("figure svg").first.bounding_box()
    assert figure["y"] + 0.4 * figure["height"] < height
    assert figure["x"] >= 0 and figure["x"] + figure["width"] <= width
    context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_in_a_figure_is_cut_off_or_written_over(browser: Any, made: Path, width: int) -> None:
    """Every text of a figure lies inside of it, and no two of one size and colour on each other."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(made.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    outside = page.evaluate(
        "[...document.querySelectorAll('figure svg')].flatMap(s => { const box = s.getBoundingClientRect();"
        " return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect();"
        " return r.left < box.left - 1 || r.right > box.right + 1 }).map(t => s.ariaLabel + ': ' + t.textContent) })"
    )
    assert outside == []
    crossing = page.evaluate(
        "[...document.querySelectorAll('.pair svg, #effects svg')].flatMap(s => {"
        " const of = [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);"
        " return of.flatMap(([a, r], i) => of.slice(i + 1).filter(([b, q]) => r.left < q.right - 1 &&"
        " q.left < r.right - 1 && r.top < q.bottom - 3 && q.top < r.bottom - 3).map(([b]) => a + ' / ' + b)) })"
    )
    assert crossing == []
    context.close()


def test_the_text_keeps_its_contrast_in_the_dark(browser: Any, made: Path) -> None:
    """Labels inside the figures follow the colours of the page."""
    colours = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(made.as_uri())
        colours.append(
            page.evaluate(
                "['figure svg text', 'figure'].map(s => getComputedStyle(document.querySelector(s)))"
                ".map((style, i) => i ? style.backgroundColor : style.fill)"
            )
        )
        context.close()
    (ink, card), (dark_ink, dark_card) = colours
    brightness = [sum(int(v) for v in colour[4:-1].split(",")) for colour in (ink, card, dark_ink, dark_card)]
    assert brightness[0] < 200
    assert brightness[1] > 600
    assert brightness[2] > 600
    assert brightness[3] < 200
