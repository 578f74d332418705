"""Wrong labels of other kinds than at random, and sizes in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from study.context.params import DataParams, WantedDataParams
from study.data.noise.kinds import transition_matrix, with_noise
from study.data.noise.sizes import sized
from study.data.scenarios.corruption import make_scenario
from study.data.scenarios.scenario import Scenario, load_scenario, save_scenario
from study.data.sources.dataset import Dataset, LabelledImages
from turnover.errors import UserError

CLASSES = ("a", "b", "c", "d", "e")
DATA = DataParams(dataset="digits", train=100, placebo=40, heldout=30, seed=1)


def dataset(train: int = 200, test: int = 50) -> Dataset:
    """Images as bright as their class says, some of them nearly as bright as the next class."""
    rng = np.random.default_rng(0)

    def part(n: int) -> LabelledImages:
        labels = rng.integers(0, 5, n)
        images = (40 * labels[:, None, None, None] + rng.integers(0, 45, (n, 1, 8, 8))).astype(np.uint8)
        return LabelledImages(images, labels)

    return Dataset("digits", part(train), part(test), CLASSES)


def clean() -> Scenario:
    return make_scenario("mixed", dataset(), DATA, fraction=0.0, kind="uniform", label_seed=0)


def test_transitions_give_the_labels_of_their_row_and_the_fraction_of_each_split() -> None:
    made = with_noise(clean(), {"a": {"b": 0.5, "c": 0.5}, "b": {"a": 1.0}, "c": {"a": 1.0}}, 0.3, seed=0).examples
    assert made.groupby("split")["is_random"].sum().to_dict() == {"train": 30, "placebo": 12, "heldout": 0}
    changed = made[made["is_random"]]
    assert set(changed["original"]) == {0, 1, 2}
    assert set(changed.loc[changed["original"] == 0, "given"]) == {1, 2}
    assert (changed.loc[changed["original"] > 0, "given"] == 0).all()
    kept = made[~made["is_random"]]
    assert (kept["given"] == kept["original"]).all()


@pytest.mark.parametrize("kind", ["instance", {name: {"e": 0.4, "a": 0.6} for name in CLASSES}])
def test_what_is_wrong_at_a_fraction_is_wrong_at_every_larger_one(kind: Any) -> None:
    fewer, more = (with_noise(clean(), kind, fraction, seed=3).examples for fraction in (0.1, 0.4))
    changed = fewer["is_random"]
    assert more.loc[changed, "is_random"].all()
    assert (more.loc[changed, "given"] == fewer.loc[changed, "given"]).all()
    assert with_noise(clean(), kind, 0.1, seed=3).examples.equals(fewer)
    assert not with_noise(clean(), kind, 0.1, seed=4).examples.equals(fewer)


def test_by_likeness_an_example_gets_the_class_that_it_is_taken_for() -> None:
    made = with_noise(clean(), "instance", 0.3, seed=0)
    changed = made.of("train", "placebo").query("is_random")
    assert (changed["given"] != changed["original"]).all()
    assert (abs(changed["given"] - changed["original"]) == 1).mean() > 0.9  # the next darker or brighter class


def test_a_list_is_followed_example_by_example(tmp_path: Path) -> None:
    before = clean().examples
    some = before[before["split"] == "train"].head(7)
    wanted = {row.source_index: CLASSES[(row.original + 2) % 5] for row in some.itertuples()}
    path = tmp_path / "wrong.csv"
    pd.DataFrame({"source_index": wanted.keys(), "label": wanted.values()}).to_csv(path, index=False)
    made = with_noise(clean(), f"list:{path}", 1.0, seed=0).examples
    changed = made[made["is_random"]]
    assert {row.source_index: CLASSES[row.given] for row in changed.itertuples()} == wanted
    assert with_noise(clean(), f"list:{path}", 0.0, seed=0).examples["is_random"].sum() == 0


def test_files_hold_what_was_made(tmp_path: Path) -> None:
    made = with_noise(clean(), "instance", 0.2, seed=0)
    save_scenario(made, tmp_path / "mixed")
    assert load_scenario(tmp_path / "mixed").examples.equals(made.examples)


@pytest.mark.parametrize(
    ("kind", "fraction", "message"),
    [
        ({"a": {"x": 1.0}}, 0.1, "there is no class 'x'; there are a, b, c, d, e"),
        ({"a": {"b": 0.5}}, 0.1, "the shares of 'a' sum to 0.5, not to 1"),
        ({"a": {"b": 1.0}}, 0.9, "labels.kind gives a label to"),
        ("list:nowhere.csv", 0.1, "the list nowhere.csv cannot be read: No such file or directory"),
    ],
)
def test_a_kind_that_does_not_fit_is_one_sentence(kind: Any, fraction: float, message: str) -> None:
    with pytest.raises(UserError) as caught:
        with_noise(clean(), kind, fraction, seed=0)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("id,label\n1,a\n", "needs the columns source_index and label"),
        ("source_index,label\n1,x\n", "has the label 'x', which is no class"),
        ("source_index,label\n1,a\n1,b\n", "has source_index '1' twice"),
    ],
)
def test_a_list_that_does_not_fit_is_one_sentence(tmp_path: Path, table: str, message: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(table)
    with pytest.raises(UserError) as caught:
        with_noise(clean(), f"list:{path}", 1.0, seed=0)
    assert message in str(caught.value)


def test_a_matrix_has_a_row_a_class() -> None:
    matrix = transition_matrix({"b": {"a": 0.25, "b": 0.75}}, CLASSES)
    assert matrix[1].tolist() == [0.25, 0.75, 0.0, 0.0, 0.0] and matrix.sum() == 1.0


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        (("all", "auto", "all"), (180, 20, 50)),
        (("auto", 0, "auto"), (200, 0, 50)),
        ((60, "auto", 30), (60, 20, 30)),
        ((60, 5, 30), (60, 5, 30)),
    ],
)
def test_words_become_numbers(asked: tuple[Any, Any, Any], sizes: tuple[int, int, int]) -> None:
    train, placebo, heldout = asked
    data = WantedDataParams(dataset="digits", train=train, placebo=placebo, heldout=heldout, seed=1)
    found = sized(data, dataset())
    assert (found.train, found.placebo, found.heldout) == sizes


def test_auto_asks_for_no_more_than_the_study_has() -> None:
    data = WantedDataParams(dataset="digits", train="auto", placebo="auto", heldout="auto", seed=1)
    found = sized(data, dataset(5000, 4000))
    assert (found.train, found.placebo, found.heldout) == (3000, 300, 2000)


def test_all_sizes_that_do_not_fit_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        sized(WantedDataParams(dataset="digits", train=190, placebo=40, heldout=60, seed=1), dataset())
    assert str(caught.value) == (
        "data.train + data.placebo = 230, but the train part of digits has 200 examples; data.heldout = 60, but the "
        "test part of digits has 50 examples: ask for fewer, or write all or auto"
    )
