"""Any table and any folder at all: examples, or a sentence that says what is wrong with it; never a traceback.

``TURNOVER_FUZZ=200000 pytest tests/unit/turnover/collecting/test_any_table.py`` tries that many, the suite a few.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnover.collecting.decoding import read_images
from turnover.collecting.folders import folder_rows
from turnover.collecting.tables import table_rows
from turnover.errors import DataError

EXAMPLES = int(os.environ.get("TURNOVER_FUZZ", "200"))
tried = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

pieces = st.one_of(
    st.binary(max_size=6),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from([b"path", b"label", b"split", b"train", b"test", b"a.png", b"../a.png", b"nan", b"1e999", b"PAR1"]),
    st.sampled_from([b",", b";", b"\t", b"\n", b"\r\n", b'"', b"{", b"}", b"[", b":", b"null", b"\0", b"\xef\xbb\xbf"]),
)
content = st.lists(pieces, max_size=24).map(b"".join)
rows = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=5)), max_size=4)


@tried
@given(content, st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".CSV", ".txt"]), st.booleans())
def test_any_file_as_a_table(written: bytes, kind: str, strict: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{kind}"
        path.write_bytes(written)
        _rows_or_a_sentence(path, strict)


@tried
@given(rows, st.sampled_from([",", ";", "\t"]), st.booleans())
def test_any_values_in_a_table(written: list[tuple[str, str]], separator: str, strict: bool) -> None:
    import csv

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            try:
                csv.writer(file, delimiter=separator).writerows([("path", "label"), *written])
            except csv.Error:
                return
        _rows_or_a_sentence(path, strict)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
suffixes = st.sampled_from([".png", ".jpg", "", ".txt"])


@settings(tried, max_examples=EXAMPLES // 2)
@given(st.lists(st.tuples(st.lists(names, min_size=1, max_size=3), suffixes, content), max_size=5))
def test_any_files_in_any_folders(files: list[tuple[list[str], str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for parts, suffix, written in files:
            path = Path(folder).joinpath(*parts[:-1], parts[-1] + suffix)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(written)
            except OSError:  # a file is where a folder should be, or the other way round
                continue
        try:
            found = folder_rows(Path(folder))
            if found:
                read_images(found)
        except DataError as error:
            _is_told(error)


def _rows_or_a_sentence(path: Path, strict: bool) -> None:
    try:
        table_rows(path, strict=strict)
    except DataError as error:
        _is_told(error)


def _is_told(error: DataError) -> None:
    assert str(error) and len(str(error)) < 5000
