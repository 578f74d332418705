"""`make compare`: settings, numbers and figures of versions side by side, in a real repository."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.commands.compare import WORKSPACE, differing, find, main, run, side_by_side, table
from turnover.errors import UserError


def _image(colour: int, width: int = 4) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.full((3, width, 3), colour, np.uint8)).save(written, "PNG")
    return written.getvalue()


def _write(root: Path, epochs: int, headline: dict[str, float], figures: dict[str, bytes]) -> None:
    (root / "params.yaml").write_text(f"training: {{epochs: {epochs}, batch_size: 32}}\n")
    (root / "reports/figures").mkdir(parents=True, exist_ok=True)
    for path in (root / "reports/figures").iterdir():
        path.unlink()
    (root / "reports/headline.json").write_text(json.dumps(headline))
    for name, image in figures.items():
        (root / "reports/figures" / name).write_bytes(image)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two commits, `old` and HEAD, and other results that lie there now."""

    def git(*command: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=tmp_path, check=True)

    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=tmp_path, check=True)
    _write(tmp_path, 3, {"accuracy": 0.5, "gone": 1.0}, {"same.png": _image(1), "other.png": _image(2)})
    git("add", "--all")
    git("commit", "--quiet", "--message", "x")
    git("tag", "old")
    figures = {"same.png": _image(1), "other.png": _image(3, width=6), "new.png": _image(4)}
    _write(tmp_path, 4, {"accuracy": 0.75}, figures)
    git("add", "--all")
    git("commit", "--quiet", "--message", "y")
    _write(tmp_path, 5, {"accuracy": 0.875}, figures)
    return tmp_path


def _cells(text: str) -> dict[str, list[str]]:
    """The rows of a table in GitHub's style, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_two_versions_have_changed_settings_all_numbers_and_their_change(root: Path) -> None:
    cells = _cells(table(find(root, ["old", "HEAD"]), "github"))
    assert cells[""] == ["old", "HEAD", "change"]
    assert cells["training.epochs"] == ["3", "4", ""]
    assert cells["accuracy"] == ["0.5", "0.75", "+0.25"]
    assert cells["gone"] == ["1", "–", ""]
    assert "training.batch_size" not in cells


def test_what_lies_here_is_a_version_and_there_may_be_several(root: Path) -> None:
    cells = _cells(table(find(root, ["old", "HEAD", WORKSPACE]), "github"))
    assert cells[""] == ["old", "HEAD", "workspace"]
    assert cells["training.epochs"] == ["3", "4", "5"]
    assert cells["accuracy"] == ["0.5", "0.75", "0.875"]


def test_settings_that_one_version_lacks_differ() -> None:
    assert differing([{"a": 1, "b": 2}, {"a": 1, "c": 3}]) == {"b": [2, None], "c": [None, 3]}
    assert differing([{"a": 1}]) == {}


def test_a_pull_request_gets_a_table_and_the_figures_that_differ(root: Path) -> None:
    folder = root / "build/changes"
    for _ in range(2):  # the second takes the place of the first
        run(root, ["old", "HEAD"], folder)
    text = (folder / "comment.md").read_text(encoding="utf-8")
    assert "old against HEAD" in text
    assert "(in the artifact, before and after in one image): other.\n" in text
    assert "New figures: new.\n" in text
    assert "went" not in text
    assert [path.name for path in (folder / "figures").iterdir()] == ["other.png"]
    both = np.asarray(Image.open(folder / "figures/other.png"))
    assert (both[:, :4] == 2).all()
    assert (both[:, -6:] == 3).all()


def test_images_of_different_sizes_stand_on_white() -> None:
    both = np.asarray(Image.open(io.BytesIO(side_by_side(_image(1), _image(2, width=8)))))
    assert both.shape == (3, 4 + 20 + 8, 3)
    assert (both[:, 4:24] == 255).all()


def test_mistakes_are_one_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="'nowhere' is no commit, branch or experiment"):
        find(root, ["nowhere"])
    (root / "reports/headline.json").unlink()
    with pytest.raises(UserError, match="workspace has no reports/headline.json: `make repro` makes it"):
        run(root, ["HEAD", WORKSPACE], None)
    with pytest.raises(UserError, match="takes two versions, not 3"):
        run(root, ["HEAD", "old", "HEAD"], root / "build")
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["compare", "old", "HEAD"])
    assert main() == 0
    assert "training.epochs" in capsys.readouterr().out
