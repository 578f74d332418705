"""The live explorer in a real browser: an image that is dropped on it or chosen is answered."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.turnover.auditing.examples import drawing, pictures
from tests.unit.turnover.serving.running import Server, running
from turnover import audit

pytestmark = pytest.mark.browser

DROP = """([content, name]) => {
    const file = new File([Uint8Array.from(atob(content), letter => letter.charCodeAt(0))], name);
    const held = new DataTransfer();
    held.items.add(file);
    document.body.dispatchEvent(new DragEvent('dragover', {dataTransfer: held, bubbles: true, cancelable: true}));
    document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("live")
    pictures(place / "set")
    (place / "set/box").rename(place / "set/<b>box")
    audit(place / "set", out=place / "audit", epochs=12, hidden=64, threads=1, device="cpu")
    with running(place / "audit") as found:
        yield found


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if "400" not in message.text else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((server.address, "data:")) else wrong.append(request.url),
    )
    page.goto(server.address)
    yield page
    context.close()
    assert wrong == []


def image() -> bytes:
    kept = io.BytesIO()
    Image.fromarray(drawing("dot", np.random.default_rng(5))).save(kept, "PNG")
    return kept.getvalue()


def values(page: Any, kind: str) -> list[float]:
    return [float(of) for of in page.locator(f"#detail .{kind} data").evaluate_all("of => of.map(d => d.value)")]


def test_a_dropped_image_is_answered_by_the_examples_behind_it(page: Any, server: Server, tmp_path: Path) -> None:
    page.evaluate(DROP, [base64.b64encode(image()).decode(), "<i>new.png"])
    page.locator("#detail .small", has_text="<i>new.png").wait_for()
    _, found = server.ask(image())
    classes = ["<b>box", "bar", "dot"]
    assert page.locator("#detail h2").inner_text() == classes[found["predicted"]]
    for kind in ("helpful", "harmful"):
        assert values(page, kind) == [row["influence"] for row in found[kind]]
    widths = page.locator("#detail img").evaluate_all("of => of.map(i => i.complete && i.naturalWidth)")
    assert set(widths) == {16} and len(widths) == 1 + len(found["helpful"]) + len(found["harmful"])
    assert all(page.locator("#detail img").evaluate_all("of => of.map(i => i.alt.length > 5)"))

    other = (found["predicted"] + 1) % 3  # what spoke for another class
    page.locator("#detail select").select_option(str(other))
    page.locator("#detail .helpful h3", has_text=f"Spoke for {classes[other]}").wait_for()
    assert values(page, "helpful") == [row["influence"] for row in server.ask(image(), f"?label={other}")[1]["helpful"]]
    page.locator("#detail .rows a").first.click()
    page.locator("#detail .small", has_text="Training example").first.wait_for()
    page.go_back()
    page.locator("#detail .small", has_text="<i>new.png").wait_for()
    assert page.evaluate("location.hash") == "#new"

    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator("#detail h2").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    (tmp_path / "bad.png").write_bytes(b"no image")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("#ask input").set_input_files(tmp_path / "bad.png")
    page.locator("#ask .failed", has_text="bad.png: this is no image that can be read").wait_for()
    (tmp_path / "good.png").write_bytes(image())
    page.locator("#ask input").set_input_files(tmp_path / "good.png")
    page.locator("#detail .small", has_text="good.png").wait_for()
    assert page.locator("#ask .failed").count() == 0
