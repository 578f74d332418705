"""Data as it lies about: traps that are handled, and those that are refused in one sentence."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.unit.turnover.auditing.conftest import QUICK
from tests.unit.turnover.auditing.examples import embeddings, pictures
from turnover import audit
from turnover.auditing.inputs import in_memory, look
from turnover.errors import UserError


def save(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path)


def few(root: Path, names: tuple[str, ...] = ("cat", "dog")) -> Path:
    for label in names:
        for number in range(6):
            save(root / label / f"{number}.png", number)
    return root


def test_a_folder_with_what_tools_leave_behind(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    for leaving in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        save(root / "cat" / leaving / "x.png")
    (root / "cat/Thumbs.db").write_text("x")
    (root / "dog/gone.png").symlink_to("/nowhere/x.png")
    os.mkfifo(root / "dog/pipe.png")
    found = look(root)
    assert len(found) == 12 and found.classes == ("cat", "dog")
    assert found.names == tuple(sorted(found.names)) and found.names[0] == "cat/0.png"
    said = " ".join(found.notices)
    assert "1 links to files that are not there" in said and "3 files" not in said and "2 files whose names" in said


def test_names_of_any_kind_stay_what_they_are(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    names = [
        "a b.png",
        "it's.png",
        'quo"te.png',
        "new\nline.png",
        "é漢.png",
        "<script>alert(1)</script>".replace("/", "∕"),
    ]
    for name in names:
        save(root / "cat" / (name if name.endswith(".png") else f"{name}.png"), 9)
    few(root, ("<b>bold</b>".replace("/", "∕"),))
    found = audit(root, out=tmp_path / "audit", **QUICK)
    assert set(found.labels["name"]) >= {f"cat/{name}" for name in names[:5]}
    again = pd.read_csv(tmp_path / "audit/labels.csv")
    assert again["name"].tolist() == found.labels["name"].tolist()
    page = (tmp_path / "audit/report.html").read_text()
    assert "<script>alert" not in page and "<b>bold" not in page


def test_classes_are_told_apart_and_said_to_be_alike(tmp_path: Path) -> None:
    found = look(few(tmp_path / "set", ("Cat", "cat", "dog")))
    assert found.classes == ("Cat", "cat", "dog")
    assert found.notices == (
        "the classes 'Cat' and 'cat' differ in letter case or spaces only; they are audited as different",
    )


def test_classes_with_few_examples_are_named(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    save(root / "owl/1.png")
    assert any("1 classes have fewer than 5 examples ('owl')" in notice for notice in look(root).notices)


@pytest.mark.parametrize("split", [("train", "val"), ("train", "val", "test"), ("Training",), ("test", "train")])
def test_splits_of_any_kind(tmp_path: Path, split: tuple[str, ...]) -> None:
    for part in split:
        few(tmp_path / "set" / part)
    found = look(tmp_path / "set")
    assert len(found) == 12 * len(split) and found.classes == ("cat", "dog")
    assert found.splits is not None and len(set(found.splits)) == len(split)


def test_numbers_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    assert look(few(tmp_path / "set", ("10", "9", "1"))).classes == ("1", "9", "10")
    features, given, _ = embeddings()
    assert in_memory(features, given.astype(np.float64) * 5).classes == ("0", "5", "10", "15")


def test_images_outside_are_read_only_on_request(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    save(tmp_path / "store/x.png")
    (root / "cat/link.png").symlink_to(tmp_path / "store/x.png")
    with pytest.raises(UserError, match=r"1 images lie outside of .*set, such as cat/link.png; copy them into it, or"):
        look(root)
    assert len(look(root, outside=True)) == 13
    for path in ("../set/cat/0.png", str(root / "cat/0.png")):
        table = tmp_path / "tables/all.csv"
        table.parent.mkdir(exist_ok=True)
        rows = "".join(f"../set/dog/{n}.png,dog\n" for n in range(3))
        table.write_text(f"path,label\n{path},cat\n../set/cat/1.png,cat\n{rows}")
        with pytest.raises(UserError, match="5 images lie outside of .*tables, such as"):
            look(table)
        assert len(look(table, outside=True)) == 5


def test_columns_may_be_named(tmp_path: Path) -> None:
    few(tmp_path / "set")
    rows = [f"{label}/{n}.png;{label};{n}" for label in ("cat", "dog") for n in range(6)]
    (tmp_path / "set/all.csv").write_text("﻿where;what;n\n" + "\n".join(rows))
    with pytest.raises(UserError, match="no column of paths, only where, what, n"):
        look(tmp_path / "set/all.csv")
    found = look(tmp_path / "set/all.csv", columns={"path": "where", "label": "what"})
    assert found.classes == ("cat", "dog") and len(found) == 12


def _npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


X, Y = np.ones((6, 3)) * np.arange(6)[:, None], np.array(list("aabbab"))
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda at: at / "gone", "there is nothing at"),
    "an empty folder": (lambda at: at, "holds no image in a class folder, such as"),
    "one class": (lambda at: few(at / "one", ("cat",)), "holds one class only, 'cat'"),
    "other file": (lambda at: _written(at / "x.txt", "x"), "is no folder, no table"),
    "an empty table": (lambda at: _written(at / "x.csv", ""), "no column of paths, only none"),
    "no rows": (lambda at: _written(at / "x.csv", "path,label\n"), "holds no image"),
    "no label": (lambda at: _written(at / "x.csv", "path,label\na.png,\n"), "example 1 has nothing in column 'label'"),
    "a short row": (lambda at: _written(at / "x.csv", "path,label\na.png\n"), "has nothing in column 'label'"),
    "a long row": (lambda at: _written(at / "x.csv", "path,label\na.png,b,c\n"), "more values than the first line"),
    "a row twice": (lambda at: _written(at / "x.csv", "path,label\na.png,b\na.png,b\n"), "a second time"),
    "odd splits": (lambda at: _written(at / "x.csv", "path,label,split\na.png,b,fold1\n"), "'fold1' in column 'split'"),
    "no utf-8": (lambda at: _written(at / "x.csv", b"path,label\n\xff,b\n"), "cannot be read"),
    "bad jsonl": (lambda at: _written(at / "x.jsonl", "{\n"), "cannot be read"),
    "bad parquet": (lambda at: _written(at / "x.parquet", "x"), "cannot be read"),
    "files gone": (lambda at: _written(at / "x.csv", "path,label\n" + "a,b\nc,d\ne,b\nf,d\n"), "4 of 4 images cannot"),
    "labels everywhere": (lambda at: _ids_as_labels(at), "6 classes for 6 examples"),
    "no features": (lambda at: _npz(at / "x.npz", labels=Y), "no array or column of embeddings"),
    "no labels": (lambda at: _npz(at / "x.npz", x=X), "no array or column of labels"),
    "labels of other length": (lambda at: _npz(at / "x.npz", x=X, y=Y[:5]), "6 embeddings but labels of shape (5,)"),
    "NaN": (lambda at: _npz(at / "x.npz", x=X * np.nan, y=Y), "6 embeddings hold NaN or infinite"),
    "one dimension": (lambda at: _npz(at / "x.npz", x=X[0], y=Y[:3]), "of shape (3,), where embeddings are"),
    "text": (lambda at: _npz(at / "x.npz", x=X.astype(str), y=Y), "where embeddings are numbers"),
    "objects": (lambda at: _npz(at / "x.npz", x=X, y=Y.astype(object)), "cannot be read"),
    "ids twice": (lambda at: _npz(at / "x.npz", x=X, y=Y, ids=list("aabcde")), "gives two examples the same id"),
    "NaN labels": (lambda at: _npz(at / "x.npz", x=X, y=[0, 1, 0, 1, 0, np.nan]), "example 5 has no label (nan)"),
    "npy alone": (lambda at: _npy(at / "x.npy"), "holds no labels; name a file of them"),
    "a damaged npz": (lambda at: _written(at / "x.npz", "x"), "cannot be read"),
    "a loop": (lambda at: _loop(at / "loop"), "there is nothing at"),
    "a pipe": (lambda at: _pipe(at / "x.csv"), "there is no table"),
    "a zero byte": (lambda at: f"{at}/x\0y", "holds a zero byte"),
    "a long name": (lambda at: at / ("x" * 300), "File name too long"),
    "no pictures": (lambda at: _damaged(at / "x", b"no picture"), "12 of 12 images cannot be read; the first:"),
    "empty files": (lambda at: _damaged(at / "x", b""), "12 of 12 images cannot be read"),
    "cut short": (lambda at: _damaged(at / "x", None), "12 of 12 images cannot be read"),
    "bombs": (lambda at: _bombs(at / "x"), "6 of 6 images cannot be read"),
    "only other files": (lambda at: _written(_new(at / "x/cat") / "a.txt", "x").parents[1], "holds no image"),
    "a part twice": (lambda at: _parts(at / "x", "val", "valid"), "are both the validation part; merge them"),
    "a way out": (lambda at: _way_out(at), "images lie outside of"),
    "absolute paths": (lambda at: _written(at / "x.csv", "path,label\n/a,b\n/c,d\n"), "2 images lie outside of"),
    "dots": (lambda at: _written(at / "x.csv", "path,label\n../a,b\nc,d\n"), "1 images lie outside of"),
    "a column twice": (lambda at: _written(at / "x.csv", "path,label,label\na,b,c\n"), "the column 'label' twice"),
    "UTF-16": (lambda at: _written(at / "x.csv", "path,label\na,b\n".encode("utf-16")), "cannot be read"),
    "an open quote": (lambda at: _written(at / "x.csv", 'path,label\n"a,b\n'), "cannot be read"),
    "jsonl of lists": (lambda at: _written(at / "x.jsonl", "[1]\n"), "example 1 is no JSON object"),
    "labels of lists": (lambda at: _written(at / "x.jsonl", '{"path": "a", "label": [1]}\n'), "has a list in column"),
    "complex numbers": (lambda at: _npz(at / "x.npz", x=X * 1j, y=Y), "where embeddings are numbers"),
    "no embedding": (lambda at: _npz(at / "x.npz", x=X[:0], y=Y[:0]), "holds no example"),
    "no feature": (lambda at: _npz(at / "x.npz", x=X[:, :0], y=Y), "where embeddings are numbers"),
    "labels as a matrix": (lambda at: _npz(at / "x.npz", x=X, y=np.ones((6, 2))), "labels of shape (6, 2)"),
    "bad split": (lambda at: _npz(at / "x.npz", x=X, y=Y, split=list("tttttt")), "is in the split 't', not train"),
    "uneven lists": (lambda at: _uneven(at / "x.parquet"), "no lists of one length"),
    "too large": (lambda at: _npz(at / "x.npz", x=X * 1e300, y=Y), "hold NaN or infinite numbers"),
}  # fmt: skip


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _damaged(root: Path, content: bytes | None) -> Path:
    for path in few(root).rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40] if content is None else content)
    return root


def _bombs(root: Path) -> Path:
    """Files of some bytes that say they are pictures of 10^10 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    for number in range(6):
        _written((root / "ab"[number % 2] / f"{number}.png"), png)
    return root


def _parts(root: Path, *names: str) -> Path:
    for name in names:
        few(root / name)
    return root


def _way_out(at: Path) -> Path:
    few(at / "other")
    few(at / "x", ("cat",))
    (at / "x/dog").symlink_to(at / "other/dog")
    return at / "x"


def _uneven(path: Path) -> Path:
    pd.DataFrame({"x": [[1.0], [1.0, 2.0]], "label": ["a", "b"]}).to_parquet(path)
    return path


def _written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _ids_as_labels(at: Path) -> Path:
    return _written(at / "x.csv", "path,label\n" + "".join(f"{n}.png,{n}\n" for n in range(6)))


def _npy(path: Path) -> Path:
    np.save(path, X)
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_in_one_sentence_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    made, words = BAD[name]
    (tmp_path / "data").mkdir()
    path = made(tmp_path / "data")
    with pytest.raises(UserError) as caught:
        audit(str(path), out=tmp_path / "audit", **QUICK)
    message = str(caught.value)
    assert words in message and "\n" not in message, message
    assert [at.name for at in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"epochs": 0}, "epochs=0: it must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"hidden": 4}, "hidden=4"),
        ({"seed": -1}, "seed=-1"),
        ({"epoch": 3}, "there is no setting epoch; there are epochs"),
        ({"device": "tpu"}, "device='tpu'"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, setting: dict[str, object], words: str) -> None:
    root = few(tmp_path / "set")
    with pytest.raises(UserError) as caught:
        audit(root, out=tmp_path / "audit", **setting)
    assert words in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_places_to_write_that_are_refused(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(root / "inside")
    for out, words in (
        (root / "audit", "lies in the data folder"),
        (root, "holds other files"),
        (tmp_path / "other", "holds other files than an audit's"),
        (tmp_path / "file", "is no folder"),
        (tmp_path / "link", "is no folder"),
        (tmp_path / "file/audit", "cannot be written: Not a directory"),
        (tmp_path / ("x" * 300), "cannot be looked at: File name too long"),
        (f"{tmp_path}/a\0b", "holds a zero byte"),
    ):
        with pytest.raises(UserError, match=words):
            audit(root, out=out, **QUICK)
    assert (tmp_path / "other/thesis.txt").read_text() == "x"
    assert sorted(path.name for path in root.iterdir()) == ["cat", "dog"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_forbidden_place_is_named(tmp_path: Path) -> None:
    root = few(tmp_path / "set")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="locked/audit cannot be written: Permission denied; name another place"):
        audit(root, out=tmp_path / "locked/audit", **QUICK)


def test_a_full_disk_leaves_the_earlier_audit_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "set", count=30)
    audit(tmp_path / "set", out=tmp_path / "audit", **QUICK)
    before = {path.name: path.read_bytes() for path in (tmp_path / "audit").iterdir()}

    def full(self: pd.DataFrame, path: Path, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(UserError, match="audit could not be written: No space left on device; free space or name"):
        audit(tmp_path / "set", out=tmp_path / "audit", **QUICK)
    assert {path.name: path.read_bytes() for path in (tmp_path / "audit").iterdir()} == before


def test_two_audits_do_not_write_one_folder(tmp_path: Path) -> None:
    root = few(tmp_path / "set")

    def meanwhile() -> int:
        with pytest.raises(UserError, match="another audit is writing"):
            audit(root, out=tmp_path / "audit", **QUICK)
        return 0

    audit(root, out=tmp_path / "audit", stop=meanwhile, **{**QUICK, "epochs": 1})
