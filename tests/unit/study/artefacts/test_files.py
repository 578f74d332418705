"""Nothing half-written under a final name, and the same bytes for the same content."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from study.artefacts.files import write_csv, write_json, write_parquet, writing
from study.context.fingerprint import content_hash, hash_of
from study.context.runs import Run


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), writing(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder_whole(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for name in ("old", "new"):
        with writing(folder) as beside:
            beside.mkdir()
            (beside / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    with pytest.raises(ZeroDivisionError), writing(folder) as beside:
        beside.mkdir()
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_a_number_that_json_cannot_hold_is_refused_rather_than_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "out.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_tables_have_the_same_bytes_every_time(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.123456789, 1e-9]})
    for write, ending in ((write_csv, "csv"), (write_parquet, "parquet")):
        for name in ("x", "y"):
            write(tmp_path / f"{name}.{ending}", frame)
        assert (tmp_path / f"x.{ending}").read_bytes() == (tmp_path / f"y.{ending}").read_bytes()
    assert (tmp_path / "x.csv").read_text() == "a,b\n1,0.123457\n2,1e-09\n"


def test_content_hashes_see_names_and_bytes_but_not_caches(tmp_path: Path) -> None:
    def make(name: str, files: dict[str, str]) -> str:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
        return content_hash(tmp_path / name)

    first = make("a", {"x.py": "1", "sub/y.py": "2"})
    assert make("b", {"sub/y.py": "2", "x.py": "1", "__pycache__/x.pyc": "3"}) == first
    assert make("c", {"x.py": "1", "sub/z.py": "2"}) != first
    assert make("d", {"x.py": "1", "sub/y.py": "3"}) != first
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 2, "b": 1})


def test_every_run_has_a_name_and_folders_of_its_own() -> None:
    runs = [Run("mixed", "head", 0), Run("mixed", "head", 10), Run("mixed", "features.1+hidden", 0)]
    for about in ("name", "folder", "scores"):
        assert len({getattr(run, about) for run in runs}) == len(runs)
    first = runs[0]
    assert (first.name, first.folder, first.scores) == ("mixed-head-0", "runs/mixed/head/0", "scores/mixed/head/0")
