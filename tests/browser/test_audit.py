"""The pages of an audit: suspects with buttons, decisions as csv, and the explorer beside."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.unit.turnover.auditing.examples import pictures
from turnover import audit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("audit")
    pictures(place / "set")
    (place / "set/box").rename(place / 'set/<b>"box", of\nwood')
    audit(place / "set", out=place / "audit", epochs=12, hidden=64, threads=1, device="cpu")
    return place / "audit"


def test_decisions_are_exported(browser: Any, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 900})
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "report.html").as_uri())
    assert page.locator(".card").count() == 50
    assert "neither listed nor counted" in page.locator("#limits").inner_text()
    assert page.locator(".card b").count() == 0, "names are text"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    first, second, third = (page.locator(".card").nth(number) for number in range(3))
    first.get_by_text("relabel").click()
    second.get_by_text("remove").click()
    third.get_by_text("keep").click()
    third.get_by_text("keep").click()  # once more takes it back
    assert page.locator("#count").inner_text() == "2 decided of 50 shown"
    with page.expect_download() as download:
        page.click("#export")
    with Path(download.value.path()).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    assert [(row["name"], row["label"]) for row in rows] == [(row["name"], row["label"]) for row in labels[:2]]
    assert [row["decision"] for row in rows] == ["relabel", "remove"]
    assert [row["new_label"] for row in rows] == [labels[0]["suggested"], ""]
    page.get_by_text("Explorer").click()
    page.wait_for_selector("text=Audit of 90 examples")
    assert not errors
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}
    page.close()
