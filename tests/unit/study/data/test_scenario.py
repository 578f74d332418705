"""Scenarios: who is drawn, whose label is random, and that files come back as they were written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages import validation_data
from study.artefacts.files import write_parquet
from study.context.params import DataParams
from study.context.stage import Stage
from study.data.scenarios.corruption import make_scenario
from study.data.scenarios.scenario import load_scenario, save_scenario
from study.data.sources.dataset import Dataset, LabelledImages, write
from tests.support import ROOT as REPOSITORY
from turnover.errors import UserError

DATA = DataParams(dataset="digits", train=100, placebo=40, heldout=30, seed=1)


def dataset() -> Dataset:
    rng = np.random.default_rng(0)

    def part(n: int) -> LabelledImages:
        return LabelledImages(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), rng.integers(0, 5, n))

    return Dataset("digits", part(200), part(50), ("a", "b", "c", "d", "e"))


def scenario(fraction: float, data: DataParams = DATA):  # type: ignore[no-untyped-def]
    return make_scenario("mixed", dataset(), data, fraction=fraction, kind="uniform", label_seed=0)


def test_splits_have_the_sizes_asked_for_and_do_not_overlap() -> None:
    made = scenario(0.2)
    assert made.examples["split"].value_counts().to_dict() == {"train": 100, "placebo": 40, "heldout": 30}
    assert made.examples["id"].tolist() == list(range(170))
    assert not made.examples.duplicated(["source_part", "source_index"]).any()
    assert set(made.of("heldout")["source_part"]) == {"test"}
    assert set(made.of("train", "placebo")["source_part"]) == {"train"}


def test_images_and_original_labels_are_those_of_the_data_set() -> None:
    made, source = scenario(0.2), dataset()
    for row in made.examples.itertuples():
        part = getattr(source, str(row.source_part))
        assert np.array_equal(made.images[row.id], part.images[row.source_index])
        assert row.original == part.labels[row.source_index]


def test_training_examples_and_placebos_get_the_same_fraction_of_random_labels_and_heldout_none() -> None:
    shares = scenario(0.2).examples.groupby("split")["is_random"].sum().to_dict()
    assert shares == {"train": 20, "placebo": 8, "heldout": 0}
    made = scenario(1.0)
    assert made.of("train", "placebo")["is_random"].all()
    kept = made.examples[~made.examples["is_random"]]
    assert (kept["given"] == kept["original"]).all()


def test_scenarios_differ_in_labels_only() -> None:
    clean, noisy = scenario(0.0), scenario(0.5)
    assert np.array_equal(clean.images, noisy.images)
    assert clean.examples["original"].equals(noisy.examples["original"])
    assert not clean.examples["given"].equals(noisy.examples["given"])


def test_names_of_the_data_set_go_with_its_examples_and_come_back(tmp_path: Path) -> None:
    bare, names = dataset(), {part: tuple(f"{part}/{i}.png" for i in range(200)) for part in ("train", "test")}
    named = Dataset(
        "own",
        LabelledImages(bare.train.images, bare.train.labels, names["train"]),
        LabelledImages(bare.test.images, bare.test.labels, names["test"][:50]),
        bare.classes,
    )
    made = make_scenario("mixed", named, DATA, fraction=0.2, kind="uniform", label_seed=0)
    save_scenario(made, tmp_path / "mixed")
    again = load_scenario(tmp_path / "mixed").examples
    assert again["name"].tolist() == [f"{row.source_part}/{row.source_index}.png" for row in again.itertuples()]
    assert again.drop(columns="name").equals(scenario(0.2).examples)


def test_kind_and_wrong_follow_from_what_is_written(tmp_path: Path) -> None:
    made = scenario(0.5)
    written = ["id", "split", "given", "original", "is_random", "source_part", "source_index"]
    assert list(made.examples) == [*written, "kind", "wrong"], "no column of names where the data set has none"
    for row in made.examples.to_dict("records"):
        kind = row["split"] if row["split"] != "train" else "random" if row["is_random"] else "real"
        assert (row["kind"], row["wrong"]) == (kind, row["given"] != row["original"])
    save_scenario(made, tmp_path / "mixed")
    write_parquet(tmp_path / "by-itself.parquet", made.examples[written])
    assert (tmp_path / "mixed/examples.parquet").read_bytes() == (tmp_path / "by-itself.parquet").read_bytes()


def validation_stage(root: Path, own: str) -> Stage:
    """A stage `validation_data` whose data set is not the study's."""
    yaml = YAML()
    params = yaml.load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["validation"]["validation"].update(dataset=own, train=10, placebo=0, heldout=10)
    params["data"]["dataset"] = "digits"
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    (root / "dvc.yaml").write_bytes((REPOSITORY / "dvc.yaml").read_bytes())
    return Stage(root, "validation_data", {"validation_set": "validation"})


def test_a_validation_set_of_another_data_set_is_looked_for_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetched(name: str, folder: Path, *, local: Path | None = None) -> Path:
        asked.append((name, local))
        return write(dataset(), folder)

    monkeypatch.setattr(validation_data, "fetch", fetched)
    monkeypatch.setenv("TURNOVER_DATA", str(tmp_path / "files"))
    validation_data.run(validation_stage(tmp_path, "kmnist"))
    assert asked == [("kmnist", tmp_path / "files")]
    assert len(load_scenario(tmp_path / "data/validation/validation").examples) == 20


def test_the_stages_that_make_data_do_not_wait_for_torch(tmp_path: Path) -> None:
    """Its import alone takes longer than their work; torchvision's is worse."""
    script = (
        "import sys; from pathlib import Path; from stages import corrupt, validation_data;"
        "from stages.fetch import fetch;"
        "from study.data.sources import fashion; fashion.mirrors(); fetch('digits', Path(sys.argv[1]));"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "raw")], env={**os.environ, "PYTHONPATH": path}, check=True
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [({"train": 190}, "data.train \\+ data.placebo = 230, but the train part of digits has 200"),
     ({"heldout": 51}, "data.heldout = 51, but the test part of digits has 50")],
)  # fmt: skip
def test_a_data_set_that_is_too_small_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scenario(0.0, DATA.model_copy(update=change))


def test_a_scenario_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = scenario(0.2)
    save_scenario(made, tmp_path / "mixed")
    again = load_scenario(tmp_path / "mixed")
    assert again.examples.equals(made.examples)
    assert np.array_equal(again.images, made.images)
    assert (again.name, again.classes, again.dataset) == (made.name, made.classes, made.dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["mixed"]


@pytest.mark.parametrize("name", ["images.npy", "examples.parquet", "scenario.json"])
def test_a_missing_or_corrupt_file_is_named_with_the_cure(tmp_path: Path, name: str) -> None:
    save_scenario(scenario(0.2), tmp_path / "mixed")
    (tmp_path / "mixed" / name).write_bytes(b"{")
    with pytest.raises(UserError, match=r"mixed is missing or corrupt .* run `dvc repro`"):
        load_scenario(tmp_path / "mixed")
    (tmp_path / "mixed" / name).unlink()
    with pytest.raises(UserError, match="missing or corrupt"):
        load_scenario(tmp_path / "mixed")
