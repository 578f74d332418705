"""The documents: the tutorial does what it says, and the site is whole and fetches nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import turnover
from tests.support import ROOT

_FENCE = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = (site / "reference.html").read_text()
    anchors = set(re.findall(r'id="(turnover\.\w+)"', page))
    assert anchors == {f"turnover.{name}" for name in turnover.__all__}


@pytest.mark.slow
def test_every_document_is_in_the_site_and_fetches_nothing(site: Path) -> None:
    pages = {page.stem: page.read_text() for page in site.glob("*.html")}
    assert {document.stem for document in (ROOT / "docs").glob("*.md")} <= pages.keys()
    for name, page in pages.items():
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*src=[\"']?([^\"' >]+)", page)
        loaded += re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|icon)[^>]*href=[\"']?([^\"' >]+)", page)
        assert loaded
        assert not [source for source in loaded if source.startswith(("http", "//"))], name


@pytest.mark.slow
def test_the_tutorial_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    printed = []
    blocks = _FENCE.findall((ROOT / "docs" / "tutorial.md").read_text())
    for kind, text in blocks:
        if kind == "text":
            printed.append((text, capsys.readouterr().out))
        else:
            exec(compile(text, "tutorial.md", "exec"), names)
    assert len(printed) == 5
    for said, found in printed:
        assert _words(said) == _words(found)
    (accuracy,), (share, count), (memorized, right) = (
        [float(number) for number in re.findall(r"\d+(?:\.\d+)?", found)]
        for _, found in (printed[i] for i in (0, 2, 3))
    )
    # What the text says of them, with room for processors that round otherwise.
    assert accuracy > 0.9
    assert share >= 90 and count == 121
    assert memorized >= 95 and right <= 20


def _words(text: str) -> list[str]:
    """The words of a text without its numbers: these depend on the processor."""
    return re.sub(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", "#", text).split()


def test_the_pictures_of_readme_and_documents_are_there_and_small() -> None:
    """`make screenshots` and `benchmarks/audit_walk.py` write them; none is there that nobody shows."""
    shown = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for path in re.findall(r"!\[[^\]]+\]\(((?:docs/)?pictures/[^)]+)\)", page.read_text(encoding="utf-8")):
            shown.add((page.parent / path).relative_to(ROOT).as_posix())
    assert shown == {f"docs/pictures/{path.name}" for path in (ROOT / "docs/pictures").iterdir()}
    assert all(1000 < (ROOT / path).stat().st_size < 300_000 for path in shown)
