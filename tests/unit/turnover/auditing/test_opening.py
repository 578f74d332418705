"""An audit is opened again only where it is whole, and its images are those that were audited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.turnover.auditing.conftest import QUICK, Audited
from tests.unit.turnover.auditing.examples import embeddings
from turnover import audit
from turnover.auditing.opening import open_audit
from turnover.errors import UserError


def quiet(line: str) -> None:
    pass


def copied(audited: Audited, folder: Path) -> Path:
    shutil.copytree(audited.folder, folder / "audit")
    return folder / "audit"


def test_it_holds_what_was_audited(audited: Audited) -> None:
    page, trained = open_audit(audited.folder, say=quiet)
    assert list(page.classes) == list(trained.classes) == ["bar", "box", "dot"]
    assert set(page.beside) == {"report.html"}
    for place in (0, 40, 89):
        pixels = np.asarray(Image.open(audited.root / trained.examples["name"][place]))
        np.testing.assert_array_equal(trained.images[place, 0], pixels)


def test_images_that_moved_are_found_where_one_says(audited: Audited, tmp_path: Path) -> None:
    folder = copied(audited, tmp_path)
    about = json.loads((folder / "audit.json").read_text())
    (folder / "audit.json").write_text(json.dumps(about | {"data": "gone"}))
    with pytest.raises(UserError, match=r"are not at gone any more: say where they are \(--data\)"):
        open_audit(folder, say=quiet)
    shutil.copytree(audited.root, tmp_path / "moved")
    assert len(open_audit(folder, tmp_path / "moved", say=quiet)[1].examples) == 90
    shutil.copytree(audited.root, tmp_path / "gone")  # a relative place, beside the folder of the audit
    assert len(open_audit(folder, say=quiet)[1].examples) == 90
    next((tmp_path / "moved").rglob("*.png")).unlink()
    with pytest.raises(UserError, match="does not hold the images that were audited"):
        open_audit(folder, tmp_path / "moved", say=quiet)


def test_what_is_no_audit_or_damaged_is_named(audited: Audited, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no audit\.json in it"):
        open_audit(tmp_path, say=quiet)
    folder = copied(audited, tmp_path)
    for name, content, said in (
        ("explorer.html", "<html></html>", "is no page of the explorer"),
        ("model.safetensors", "damaged", "missing or damaged"),
        ("model.json", "{}", "missing or damaged"),
        ("audit.json", "[]", "cannot be read"),
        ("audit.json", "{}", "as an earlier version wrote it"),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_text(content)
        with pytest.raises(UserError, match=said):
            open_audit(folder, say=quiet)
        (folder / name).write_bytes(before)
    (folder / "explorer.html").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        open_audit(folder, say=quiet)


def test_embeddings_cannot_be_asked_about_images(tmp_path: Path) -> None:
    features, labels, _ = embeddings()
    audit(features, labels, out=tmp_path / "audit", **QUICK)
    with pytest.raises(UserError, match=r"is an audit of embeddings, and a new image has none"):
        open_audit(tmp_path / "audit", say=quiet)
