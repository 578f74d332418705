"""Tables of images as people and programs write them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from study.data.sources.dataset import load
from study.data.sources.fetching import fetch
from tests.unit.study.data.pictures import by_name, refusal, table
from turnover.collecting.tables import one_spelling, table_rows
from turnover.errors import DataError

GOOD = {"path": "cat/1.png", "label": "cat", "split": "train"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"file": "cat/1.png", "label": "cat"}], ("no column 'path'", "file, label")),
        ([{"path": "cat/1.png", "class": "cat"}], ("no column 'label'", "path, class")),
        ([{**GOOD, "spilt": "x"}], ("unknown column 'spilt'",)),
        ([{**GOOD, "split": "valid"}], ("example 1", "'valid'", "train or test")),
        ([GOOD, {**GOOD, "label": ""}], ("example 2", "column 'label'")),
        ([GOOD, {**GOOD, "label": "dog"}], ("example 2", "cat/1.png", "second time")),
        ([GOOD, {**GOOD, "path": "dog/1.png"}], ("one class only, 'cat'",)),
        ([GOOD, {**GOOD, "path": "dog/1.png", "label": "dog"}], ("nothing is in the test split",)),
        (
            [
                {"path": "cat/1.png", "label": "cat"},
                *({"path": f"dog/{i}.png", "label": "dog"} for i in range(99)),
            ],
            ("dog/30.png", "No such file"),
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_errors_name_the_column_or_file(pictures: Path, tmp_path: Path, rows, words, suffix: str) -> None:
    message = refusal(table(pictures / f"all{suffix}", rows), tmp_path)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("all.csv", b"", "no column 'path', only none"),
        ("all.csv", b"path,label\n", "holds no image"),
        ("all.csv", b"path,label\na.png,b,c\n", "more values"),
        ("all.csv", b"path,label\na.png\n", "nothing in column 'label'"),
        ("all.csv", b"path,label\n\xff\xfe,b\n", "cannot be read"),
        ("all.parquet", b"no parquet at all", "cannot be read"),
        ("all.jsonl", b'{"path": "a.png", "label": "b"}\n[1, 2]\n', "example 2 is no JSON object"),
        ("all.jsonl", b'{"path": "a.png", "label": NaN}\n', "nothing in column 'label' (nan)"),
        ("all.jsonl", b'{"path": "a.png"}\n{"path": "b.png", "label": 1}\n', "example 1 has nothing in column 'label'"),
        ("all.xlsx", b"x", "must end with .csv, .tsv, .jsonl or .parquet"),
    ],
)
def test_broken_tables(tmp_path: Path, file: str, content: bytes, words: str) -> None:
    (tmp_path / file).write_bytes(content)
    message = refusal(f"table:{tmp_path / file}", tmp_path)
    assert words in message
    assert file in message
    assert "there is no table" in refusal(f"table:{tmp_path / 'gone.csv'}", tmp_path)


def labelled(pictures: Path, labels: list[object]) -> list[dict[str, object]]:
    """30 rows of the pictures, with `labels` in turn."""
    return [{"path": f"cat/{i}.png", "label": labels[i % len(labels)]} for i in range(30)]


def classes(name: str, folder: Path) -> tuple[str, ...]:
    return load(fetch(name, folder)).classes


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (pd.Series(["cat", "dog", None]), "label'"),
        (pd.Series(["cat", "dog", pd.NA], dtype="string"), "label'"),
        (pd.Series(["cat", "dog", np.nan], dtype="category"), "label'"),
        (pd.Series([1, 2, pd.NA], dtype="Int64"), "label'"),
        (pd.Series([True, False, None], dtype="boolean"), "label'"),
        (pd.Series([1.0, 2.0, np.nan]), "label'"),
        (pd.Series(["cat", "dog", "nan"]), "label' (nan)"),
        (pd.Series(["cat", "dog", "<NA>"]), "label' (<NA>)"),
        (pd.Series(["cat", "dog", "NaT"]), "label' (NaT)"),
        (pd.Series(["cat", "dog", " \t "]), "label'"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_missing_label_is_refused_however_it_is_written(
    pictures: Path, tmp_path: Path, values: pd.Series, missing: str, suffix: str
) -> None:
    frame = pd.DataFrame({"path": [f"cat/{i}.png" for i in range(3)], "label": values})
    path = pictures / f"all{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    assert f"all{suffix}: example 3 has nothing in column '{missing}" in refusal(f"table:{path}", tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_in_parquet_is_refused(pictures: Path, tmp_path: Path, value: float) -> None:
    """Pandas writes NaN as a null, others as what it is."""
    for column in ("path", "label"):
        rows = [{"path": "cat/1.png", "label": 1.0}, {"path": "cat/2.png", "label": 2.0}]
        rows[1][column] = value
        if column == "path":
            rows[0]["path"] = 7.0
        name = table(pictures / "all.parquet", rows)
        assert f"example 2 has nothing in column '{column}' (nan)" in refusal(name, tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_spaces_around_labels_columns_and_splits_do_not_count(pictures: Path, tmp_path: Path, suffix: str) -> None:
    rows = [
        {
            " Path": f" cat/{i}.png",
            "label ": ("cat ", "cat", "\u00a0dog", "dog\t")[i % 4],
            "SPLIT": (" Train", "TEST ")[i // 20],
        }
        for i in range(30)
    ]
    dataset = load(fetch(table(pictures / f"all{suffix}", rows), tmp_path / "set"))
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test)) == (20, 10)
    assert {name: label for name, (_, label) in by_name(dataset).items()} == {
        f"cat/{i}.png": "cat" if i % 4 < 2 else "dog" for i in range(30)
    }


def test_one_accent_is_one_class_however_it_is_spelt(pictures: Path, tmp_path: Path) -> None:
    rows = labelled(pictures, ["J\u00f6rg", "Jo\u0308rg", "Anna"])
    assert classes(table(pictures / "all.csv", rows), tmp_path / "set") == ("Anna", "J\u00f6rg")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([2.0, 10.0, 1.0], ("1", "2", "10")),
        ([-1.0, -10.0, 2.0], ("-10", "-1", "2")),
        ([0.5, 2.0, 10.0], ("0.5", "2", "10")),
        ([Decimal("2.00"), Decimal("10.00")], ("2", "10")),
        ([True, False], ("False", "True")),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_are_numbers_whatever_their_type(
    pictures: Path, tmp_path: Path, labels: list[object], wanted: tuple[str, ...], suffix: str
) -> None:
    assert classes(table(pictures / f"all{suffix}", labelled(pictures, labels)), tmp_path / "set") == wanted


def test_half_precision_and_categories_are_numbers_too(pictures: Path, tmp_path: Path) -> None:
    paths = [f"cat/{i}.png" for i in range(30)]
    for number, label in enumerate(
        (
            pyarrow.array(np.float16([2, 10, 1] * 10)),
            pyarrow.array([2.0, 10.0, 1.0] * 10).dictionary_encode(),
            pyarrow.array([b"2", b"10", b"1"] * 10),
            pyarrow.array([2, 10, 1] * 10, pyarrow.decimal128(5, 2)),
        )
    ):
        pyarrow.parquet.write_table(pyarrow.table({"path": paths, "label": label}), pictures / "all.parquet")
        assert classes(f"table:{pictures / 'all.parquet'}", tmp_path / f"set{number}") == ("1", "2", "10")
    name = table(pictures / "all.parquet", labelled(pictures, [1e16, 2.0]))
    assert classes(name, tmp_path / "large") == ("2", "10000000000000000")


def test_one_spelling_leaves_words_and_ids_alone() -> None:
    assert one_spelling(["2", "2.0", "10.00", "-0.0", "1.50"]) == ["2", "2", "10", "0", "1.5"]
    assert one_spelling(["TRUE", "true", "False"]) == ["True", "True", "False"]
    for words in (["2.0", "cat"], ["007", "7", "42"], ["true", "maybe"], ["1.2.0", "1.2.1"]):
        assert one_spelling(words) == words


@pytest.mark.parametrize("label", [["cat", "dog"], {"name": "cat"}])
def test_several_labels_for_one_example_are_refused(pictures: Path, tmp_path: Path, label: object) -> None:
    name = table(pictures / "all.parquet", labelled(pictures, [label]))
    assert f"example 1 has a {type(label).__name__} in column 'label', not one" in refusal(name, tmp_path)


@pytest.mark.parametrize(
    "other", ["./cat/1.png", "cat//1.png", "dog/../cat/1.png", "{pictures}/cat/1.png", " cat/1.png"]
)
def test_one_file_is_one_example_however_its_path_is_written(pictures: Path, tmp_path: Path, other: str) -> None:
    rows = [{"path": "cat/1.png", "label": "a"}, {"path": other.format(pictures=pictures), "label": "b"}]
    assert "example 2 in column 'path' names" in refusal(table(pictures / "all.csv", rows), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffpath,label\r\n" + "".join(f"cat/{i}.png,{'ab'[i % 2]}\r\n" for i in range(30)),
        '"path","label"\n' + "".join(f'"cat/{i}.png","{"ab"[i % 2]}"\n' for i in range(30)),
        'path, "label"\n' + "".join(f'cat/{i}.png, "{"ab"[i % 2]}"\n\n' for i in range(30)),
        "\ufeffpath;label\r\n" + "".join(f"cat/{i}.png;{'ab'[i % 2]}\r\n" for i in range(30)),
        "path\tlabel\n" + "".join(f"cat/{i}.png\t{'ab'[i % 2]}\n" for i in range(30)),
    ],
)
def test_csv_as_spreadsheets_and_people_write_it(pictures: Path, tmp_path: Path, content: str) -> None:
    (pictures / "ALL.CSV").write_text(content, encoding="utf-8", newline="")
    assert classes(f"table:{pictures / 'ALL.CSV'}", tmp_path / "set") == ("a", "b")


def test_a_quoted_name_may_hold_a_comma(pictures: Path, tmp_path: Path) -> None:
    (pictures / "cat/1.png").rename(pictures / "cat/1, left.png")
    content = (
        "path,label\n" + "".join(f"cat/{i}.png,{'ab'[i % 2]}\n" for i in range(2, 30)) + '"cat/1, left.png","a, b"\n'
    )
    (pictures / "all.csv").write_text(content)
    rows = by_name(load(fetch(f"table:{pictures / 'all.csv'}", tmp_path / "set")))
    assert rows["cat/1, left.png"][1] == "a, b"
    assert rows["cat/1, left.png"][0].max() == 1


@pytest.mark.parametrize("header", ["path,label,label", "path,label,Label ", "path,label,PATH"])
def test_a_column_that_is_there_twice_is_refused(pictures: Path, tmp_path: Path, header: str) -> None:
    (pictures / "all.csv").write_text(f"{header}\ncat/1.png,cat,dog\n")
    assert "twice; remove one" in refusal(f"table:{pictures / 'all.csv'}", tmp_path)


def test_tables_of_other_formats_say_the_same(pictures: Path, tmp_path: Path) -> None:
    rows = labelled(pictures, ["a", "b"])
    (pictures / "all.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    (pictures / "all.tsv").write_text("path\tlabel\n" + "".join(f"{row['path']}\t{row['label']}\n" for row in rows))
    wanted = by_name(load(fetch(table(pictures / "all.csv", rows), tmp_path / "csv")))
    for kind in ("jsonl", "tsv"):
        found = by_name(load(fetch(f"table:{pictures / f'all.{kind}'}", tmp_path / kind)))
        assert {name: label for name, (_, label) in found.items()} == {n: label for n, (_, label) in wanted.items()}


def test_columns_are_found_by_what_they_are_called_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text('id,file_name,Class,note,subset\n1,a.png,cat,"x, y",val\n2,b.png,dog,,train\n')
    found = [(row.name, row.label, row.split) for row in table_rows(tmp_path / "all.csv")]
    assert found == [("a.png", "cat", "validation"), ("b.png", "dog", "train")]
    found = [(row.name, row.label, row.split) for row in table_rows(tmp_path / "all.csv", columns={"label": "ID"})]
    assert found == [("a.png", "1", "validation"), ("b.png", "2", "train")]
    with pytest.raises(DataError, match=r"no column called 'kind', only id, file_name, Class, note, subset; say"):
        table_rows(tmp_path / "all.csv", columns={"label": "kind"})
    (tmp_path / "all.csv").write_text("picture,label\na.png,cat\n")
    with pytest.raises(DataError, match="no column of paths, only picture, label; say which it is"):
        table_rows(tmp_path / "all.csv")
