"""The page holds the data whole, as data, and stays within its size."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.turnover.exploring.made import CLASSES, SCRIPT, TRAIN, make_explorer
from turnover.errors import UserError
from turnover.exploring.explorer import Explorer
from turnover.exploring.writing import embedded, packed, page, write_explorer


class Elements(HTMLParser):
    """Which elements a page has, and what its scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.now = ""
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.now = f"{tag} {dict(attrs).get('type') or ''}".strip()

    def handle_endtag(self, tag: str) -> None:
        self.now = ""

    def handle_data(self, data: str) -> None:
        self.texts[self.now] = self.texts.get(self.now, "") + data


@pytest.fixture(scope="module")
def text() -> str:
    return page(make_explorer()).decode()


def data_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Elements(text).texts["script application/json"])
    return found


def test_names_are_text_and_come_back_as_they_were(text: str) -> None:
    elements = Elements(text)
    assert elements.tags.count("script") == 2
    assert "img" not in elements.tags
    assert data_of(text)["classes"] == list(CLASSES)
    assert SCRIPT not in text
    assert f"<h1>An {html.escape(SCRIPT)} audit</h1>" in text


def test_the_policy_names_the_one_style_and_the_one_script_and_nothing_outside(text: str) -> None:
    elements = Elements(text)
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(elements.texts[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text
    assert "default-src 'none'; img-src data:;" in text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)


def test_columns_hold_the_rows_and_pairs_are_by_place_the_strongest_first(text: str) -> None:
    explorer, data = make_explorer(), data_of(text)
    assert explorer.pairs is not None and explorer.targets is not None
    assert data["training"]["id"] == explorer.training["id"].tolist()
    np.testing.assert_allclose(data["training"]["memorization"], explorer.training["memorization"], rtol=1e-3)
    pairs = pd.DataFrame(data["pairs"])
    assert pairs["influence"].abs().is_monotonic_decreasing
    pairs["target"] = explorer.targets["id"].to_numpy()[pairs["target"]]
    pairs["example"] = explorer.training["id"].to_numpy()[pairs["example"]]
    both = explorer.pairs.merge(pairs, on=["target", "example"], validate="1:1")
    assert len(both) == len(explorer.pairs)
    np.testing.assert_allclose(both["influence_x"], both["influence_y"], rtol=1e-3)
    np.testing.assert_array_equal(both["agree_x"], both["agree_y"])


def test_curves_are_kept_to_a_ten_thousandth() -> None:
    explorer = make_explorer()
    curve = explorer.curves["flipped"].copy()
    curve[3, 1], curve[4, 2] = np.nan, 1.7
    kept = np.frombuffer(
        base64.b64decode(packed(make_explorer(curves={"flipped": curve}))["curves"]["flipped"]), "<u2"
    ).reshape(TRAIN, -1)
    assert kept[3, 1] == 65535
    assert kept[4, 2] == 10_000
    known = np.isfinite(curve)
    assert np.abs(kept[known] / 10_000 - curve[known].clip(0, 1)).max() <= 0.5e-4


@given(st.text(st.characters(), max_size=20))
def test_any_name_survives_in_json_and_cannot_leave_its_element(name: str) -> None:
    inside = embedded({"name": name})
    assert json.loads(inside) == {"name": name}
    assert inside.isascii()
    assert "<" not in inside


def test_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    """Files have such names, whose bytes are no UTF-8."""
    training = pd.DataFrame({"id": pd.Series(["bad\udcff.png"], dtype=object), "given": [0]})
    write_explorer(Explorer("bad\udcff", ["a"], training), tmp_path / "page.html")
    data = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert data["training"]["id"] == ["bad\udcff.png"]


def test_the_same_data_give_the_same_bytes() -> None:
    assert page(make_explorer()) == page(make_explorer())


def test_images_give_way_until_the_page_fits_or_it_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (TRAIN, 1, 6, 6), dtype=np.uint8).repeat(7, axis=2).repeat(7, axis=3)
    explorer = make_explorer(
        training_images=images + rng.integers(0, 9, images.shape, dtype=np.uint8), target_images=None
    )
    whole = page(explorer)
    bare = len(page(make_explorer(training_images=None, target_images=None)))
    less = page(explorer, limit=(bare + len(whole)) // 2)
    assert bare < len(less) <= (bare + len(whole)) // 2
    sizes = [data_of(of.decode())["images"]["training"]["width"] for of in (whole, less)]
    assert sizes == [42, 42]
    for limit, of in ((bare + 1000, explorer), (bare - 1, make_explorer(training_images=None, target_images=None))):
        with pytest.raises(UserError, match=r"^the page would (be larger than|have) 0\.\d+ MB.*: pass fewer"):
            write_explorer(of, tmp_path / "page.html", limit=limit)
    assert list(tmp_path.iterdir()) == []
