"""An audit from end to end: what it finds, what it writes, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.support import ROOT
from tests.unit.turnover.auditing.conftest import QUICK, Audited
from tests.unit.turnover.auditing.examples import embeddings, pictures
from turnover import audit
from turnover.interruption import Interrupted

FILES = {
    "audit.json", "classes.csv", "duplicates.csv", "explorer.html", "influence.csv", "labels.csv", "memorized.csv",
    "model.json", "model.safetensors", "outliers.csv", "report.html", "seconds.json",
}  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    """The files of an audit but for what tells its time."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "seconds.json"}


def test_wrong_labels_come_first_with_the_right_class(audited: Audited) -> None:
    labels = pd.read_csv(audited.folder / "labels.csv")
    assert len(labels) == 90, "every example is judged"
    first = labels.head(len(audited.wrong))
    assert set(first["name"]) == set(audited.wrong)
    assert first["suggested"].tolist() == [audited.wrong[name] for name in first["name"]]
    assert (first["suggested_probability"] > 0.5).all()
    assert labels["rank"].tolist() == list(range(1, 91))
    assert labels["suspicion"].is_monotonic_decreasing
    assert labels["false_discovery_rate"].is_monotonic_increasing
    assert labels["suspect"].sum() >= 1 and labels["suspect"].is_monotonic_decreasing
    assert (labels["label"] == labels["name"].str.split("/").str[0]).all()
    assert 2 < audited.audit.summary["wrong_labels"] < 15


def test_all_files_are_there_and_say_the_same(audited: Audited) -> None:
    assert {path.name for path in audited.folder.iterdir()} == FILES
    about = json.loads((audited.folder / "audit.json").read_text())
    assert about["summary"] == audited.audit.summary
    assert about["settings"]["epochs"] == QUICK["epochs"] and set(about["versions"]) > {"torch", "turnover"}
    for name in ("labels", "memorized", "influence", "duplicates", "outliers", "classes"):
        frame = pd.read_csv(audited.folder / f"{name}.csv")
        assert len(frame) == len(getattr(audited.audit, name))
    assert sum(pd.read_csv(audited.folder / "classes.csv")["examples"]) == 90
    weights = load_file(audited.folder / "model.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert not [path for path in audited.folder.parent.iterdir() if path.name.startswith(".")], "nothing is left over"


def test_the_page_holds_everything_and_asks_for_nothing(audited: Audited) -> None:
    page = (audited.folder / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and "@@" not in page
    assert 'href="explorer.html"' in page
    assert "report.html" in (audited.folder / "explorer.html").read_text()
    for name in audited.wrong:
        assert json.dumps(name) in page
    assert page.count("data:image/png;base64,") >= 50
    assert {path.name for path in audited.root.rglob("*") if path.is_file()} == {f"{n:03d}.png" for n in range(90)}


def test_a_notebook_shows_it(audited: Audited) -> None:
    assert "Audit of 90 examples in 3 classes" in repr(audited.audit)
    shown = audited.audit._repr_html_()
    assert "<table" in shown and next(iter(audited.wrong)) in shown


def test_the_same_data_give_the_same_bytes_and_an_earlier_audit_is_replaced(audited: Audited, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(audited.folder, out)
    (out / "labels.csv").write_text("old")
    audit(audited.root, out=out, **QUICK)
    assert content(out) == content(audited.folder)


def test_an_interrupted_audit_goes_on_to_the_same_bytes(audited: Audited, tmp_path: Path) -> None:
    out, asked = tmp_path / "audit", []

    def stop() -> int:
        asked.append(1)
        return 15 if len(asked) == 17 else 0

    with pytest.raises(Interrupted, match="run it again to go on"):
        audit(audited.root, out=out, stop=stop, **QUICK)
    assert not out.exists(), "nothing half-written"
    steps = []
    audit(audited.root, out=out, stop=lambda: len(steps.append(1) or steps) * 0, **QUICK)  # type: ignore[func-returns-value]
    assert len(steps) == 12 * 3 - 17, "only what was left was trained"
    assert content(out) == content(audited.folder)
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_embeddings_of_every_kind_of_file_give_the_same(tmp_path: Path) -> None:
    features, given, right = embeddings()
    names = [f"e{number}" for number in range(len(given))]
    texts = np.array(["abcd"[label] for label in given])
    found = audit(features, texts, ids=names, out=None, **QUICK)
    assert set(found.labels["name"].head(10)) == set(names[:10])
    suggested = found.labels.set_index("name")["suggested"]
    assert [suggested[name] for name in names[:10]] == ["abcd"[label] for label in right[:10]]
    np.savez(tmp_path / "x.npz", embeddings=features, labels=texts, ids=names)
    frame = pd.DataFrame({"id": names, "embedding": list(features), "label": texts})
    frame.to_parquet(tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", features)
    frame[["label"]].to_csv(tmp_path / "labels.csv", index=False)
    for name, labels in (("x.npz", None), ("x.parquet", None), ("x.npy", tmp_path / "labels.csv")):
        other = audit(tmp_path / name, labels, out=tmp_path / f"of-{name}", **QUICK)
        scores = ["suspicion", "wrong_probability", "suggested", "label"]
        pd.testing.assert_frame_equal(other.labels[scores], found.labels[scores])
        if labels is None:
            assert other.labels["name"].tolist() == found.labels["name"].tolist()


def test_images_of_all_sorts_are_audited_together(tmp_path: Path) -> None:
    """Sizes, modes and depths that differ; one that cannot be read is left out and named."""
    wrong = pictures(tmp_path / "set", count=60, wrong=0)
    assert not wrong
    root = tmp_path / "set"
    with Image.open(root / "bar/000.png") as image:
        grey = image.copy()
    grey.resize((300, 40)).save(root / "bar/wide.jpg")
    Image.merge("RGBA", [grey] * 4).save(root / "bar/alpha.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 200).save(root / "bar/deep.png")
    (root / "bar/broken.png").write_bytes(b"no picture")
    said: list[str] = []
    found = audit(root, out=tmp_path / "audit", say=said.append, **QUICK)
    assert len(found.labels) == 63
    assert "1 images cannot be read and were left out (unreadable.csv names them)" in found.notices
    assert "1 images have more than 8 bits a channel; their own range was stretched to 0..255" in found.notices
    assert "bar/broken.png cannot be read" in (tmp_path / "audit/unreadable.csv").read_text()
    assert any("64 images in 3 classes" in line for line in said) and any("about" in line for line in said)
    assert json.loads((tmp_path / "audit/audit.json").read_text())["input"] == [3, 16, 16]


def test_influence_is_of_mistakes_by_others(audited: Audited) -> None:
    influence, labels = audited.audit.influence, audited.audit.labels.set_index("name")
    assert not labels.loc[influence["name"].unique(), "suspect"].any()
    assert (influence["name"] != influence["example"]).all()
    helpful = influence["kind"] == "helpful"
    assert (influence.loc[helpful, "influence"] > 0).all() and (influence.loc[~helpful, "influence"] < 0).all()


def test_an_audit_that_is_sure_of_nothing_says_so() -> None:
    said: list[str] = []
    x, y = np.repeat(np.eye(2), 30, 0) + 0.01 * np.arange(60)[:, None], np.repeat([0, 1], 30)
    assert audit(x, y, out=None, say=said.append, **QUICK).summary["suspects"] == 0
    assert said[-1].endswith("labels are wrong; none is sure to be")


def test_splits_leak_where_one_picture_is_in_both(tmp_path: Path) -> None:
    pictures(tmp_path / "set/train", count=60, wrong=0)
    pictures(tmp_path / "set/test", count=15, wrong=0, seed=1)
    with Image.open(tmp_path / "set/train/box/001.png") as image:
        shifted = np.roll(np.asarray(image), 1, 1)
        Image.fromarray(shifted).save(tmp_path / "set/test/dot/twice.png")
    shutil.copy(tmp_path / "set/train/dot/002.png", tmp_path / "set/test/dot/same.png")
    found = audit(tmp_path / "set", out=None, **QUICK)
    pairs = found.duplicates.set_index("name")
    same, near = pairs.loc["test/dot/same.png"], pairs.loc["test/dot/twice.png"]
    assert (same["kind"], same["other"], same["leak"], same["conflict"]) == ("exact", "train/dot/002.png", True, False)
    assert (near["kind"], near["other"], near["leak"], near["conflict"]) == ("near", "train/box/001.png", True, True)
    assert len(pairs) == 2
    assert set(found.labels["split"]) == {"train", "test"}
    assert found.influence["example"].str.startswith("train/").all()


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(audited: Audited, tmp_path: Path) -> None:
    options = [f"--{name}={value}" for name, value in QUICK.items()]
    command = [sys.executable, "-m", "turnover.auditing.command", "audit", str(audited.root), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    out = tmp_path / "audit"
    for seconds in (3.0, 5.0, 6.0):
        try:
            subprocess.run(
                [*command, "--out", str(out)], env=environment, timeout=seconds, capture_output=True, check=True
            )  # which kills it
        except subprocess.TimeoutExpired:
            assert not out.exists() or content(out) == content(audited.folder)
    done = subprocess.run([*command, "--out", str(out)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert content(out) == content(audited.folder)
