"""`python -m study.commands.judge`: files of scores judged as the table judges its rows, and what is no such file."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study.commands.judge import judge, load_problem, main, read_scores
from study.data.scenarios.scenario import save_scenario
from study.retraining.subsets import SubsetOutputs, draw_subsets
from study.validation.judge import Judge
from study.validation.rows import Row
from tests.support import ROOT
from tests.unit.study.digits import digits_scenario
from turnover.errors import UserError

TRAIN, PLACEBO, HELDOUT, TARGETS, NETWORKS = 60, 10, 24, 20, 40
COUNT = TRAIN + PLACEBO + HELDOUT


def weights() -> np.ndarray:
    """What every training example does for every held-out one."""
    return np.random.default_rng(0).normal(size=(TRAIN, HELDOUT))


def planted(seed: int) -> SubsetOutputs:
    """Outputs of held-out examples are sums over the subset, up to noise; example i is memorized in proportion to i."""
    rng = np.random.default_rng([1, seed])
    inside = draw_subsets(TRAIN, NETWORKS)
    margin = rng.normal(size=(NETWORKS, COUNT), scale=0.3)
    margin[:, :TRAIN] += inside * np.linspace(0, 4, TRAIN) - 1
    margin[:, TRAIN + PLACEBO :] += inside @ weights()
    return SubsetOutputs(inside, margin.astype(np.float32), margin > 0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Settings, examples and ground truth of one small set, at the root of a repository."""
    from ruamel.yaml import YAML

    yaml = YAML()
    values = yaml.load(ROOT / "params.yaml")
    small = {"dataset": "digits", "train": TRAIN, "placebo": PLACEBO, "heldout": HELDOUT, "noise": 0.1, "seed": 1}
    network = {"model": "mlp", "options": {"hidden": 16, "layers": 1}}
    values["validation_sets"], values["validation"] = ["validation"], {"validation": {**small, **network}}
    values["comparison"].update({"targets": TARGETS, "resamples": 50})
    yaml.dump(values, tmp_path / "params.yaml")
    save_scenario(digits_scenario(TRAIN, PLACEBO, HELDOUT), tmp_path / "data/validation/validation")
    (tmp_path / "ground_truth").mkdir()
    planted(0).save(tmp_path / "ground_truth/validation.npz")
    planted(1).save(tmp_path / "ground_truth/validation-fitted.npz")
    planted(2).save(tmp_path / "ground_truth/validation-again.npz")
    return tmp_path


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def printed(root: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> pd.Series:
    judge(root, path, "validation")
    frame = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert len(frame) == 1
    return frame.iloc[0]


def test_influence_from_a_process_of_its_own(project: Path) -> None:
    saved(project / "my scores.npy", weights()[:, :TARGETS].astype(np.float32))
    done = subprocess.run(
        [sys.executable, "-m", "study.commands.judge", "my scores.npy", "--set", "validation"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    line = pd.read_csv(io.StringIO(done.stdout)).iloc[0]
    assert line["method"] == "my scores"
    assert line["lds_low"] <= line["lds"] <= line["lds_high"]
    assert line["lds"] > 0.9 and line["fitted_lds"] > 0.9
    assert line[["memorization", "auroc", "given_csl", "networks"]].isna().all()


def test_a_vector_is_memorization_and_suspicion_judged_as_the_table_does(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = np.arange(TRAIN)  # whole numbers are numbers too
    line = printed(project, saved(project / "mine.npy", score), capsys)
    problem = load_problem(project, "validation")
    expected = Judge(problem, np.zeros(TRAIN)).judge(Row("mine", "own", 1, 0, 0, [score * 1.0], [score * 1.0]))
    for figure in ("memorization", "heldout", "fitted_memorization", "auroc", "average_precision"):
        interval = [line[figure], line[f"{figure}_low"], line[f"{figure}_high"]]
        assert interval == pytest.approx([expected[figure][of] for of in ("value", "low", "high")], abs=1e-9)
    assert line["memorization"] > 0.9
    assert np.isnan(line["lds"])
    opposite = printed(project, saved(project / "opposite.npy", -score), capsys)
    assert opposite["memorization"] == pytest.approx(-line["memorization"])
    assert opposite["auroc"] == pytest.approx(1 - line["auroc"])


def test_without_further_networks_it_judges_by_those_that_are_there(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("fitted", "again"):
        (project / f"ground_truth/validation-{kind}.npz").unlink()
    judge(project, saved(project / "mine.npy", weights()[:, :TARGETS]), "validation")
    said = capsys.readouterr()
    assert "ground_truth/validation-fitted.npz is missing" in said.err
    assert "`dvc repro judges@validation`" in said.err
    line = pd.read_csv(io.StringIO(said.out)).iloc[0]
    assert line["lds"] > 0.9
    assert line[["fitted_lds", "lds_share"]].isna().all()


def test_what_cannot_be_judged_is_told(tmp_path: Path) -> None:
    def refused(array: np.ndarray, text: str) -> None:
        with pytest.raises(UserError, match=text):
            read_scores(saved(tmp_path / "x.npy", array), TRAIN, TARGETS)

    refused(np.zeros(TRAIN - 1), r"has shape \[59\]; it must be \[60\] for memorization or \[60, 20\] for influence")
    refused(np.zeros((TARGETS, TRAIN)), r"has shape \[20, 60\]: it seems to be transposed")
    refused(np.zeros((TRAIN, TARGETS, 1)), r"has shape \[60, 20, 1\]; it must be")
    refused(np.full(TRAIN, np.nan), "holds 60 values that are not finite")
    refused(np.where(np.arange(TRAIN) == 3, np.inf, 0.0), "holds 1 values that are not finite")
    refused(np.zeros(TRAIN, dtype=complex), "holds complex128: scores must be floating-point numbers or integers")
    refused(np.zeros(TRAIN, dtype=bool), "holds bool: scores must be")
    refused(np.full(TRAIN, "1.0"), "holds <U3: scores must be")
    refused(np.array([None] * TRAIN), "cannot be read as an array of numbers")
    with pytest.raises(UserError, match=r"none\.npy is missing"):
        read_scores(tmp_path / "none.npy", TRAIN, TARGETS)
    (tmp_path / "text.npy").write_text("0.1 0.2")
    with pytest.raises(UserError, match="cannot be read as an array of numbers"):
        read_scores(tmp_path / "text.npy", TRAIN, TARGETS)
    (tmp_path / "empty.npy").touch()
    with pytest.raises(UserError, match="cannot be read as an array of numbers"):
        read_scores(tmp_path / "empty.npy", TRAIN, TARGETS)
    with pytest.raises(UserError, match="cannot be read as an array of numbers"):
        read_scores(tmp_path, TRAIN, TARGETS)
    np.savez(tmp_path / "several.npz", a=np.zeros(TRAIN))
    with pytest.raises(UserError, match="holds several arrays"):
        read_scores(tmp_path / "several.npz", TRAIN, TARGETS)


def test_missing_examples_and_unknown_sets_are_one_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    saved(project / "mine.npy", np.zeros(TRAIN))

    def error(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["judge", "mine.npy", *arguments])
        assert main() == 1
        return capsys.readouterr().err

    assert "'other' is no validation set of params.yaml: use one of validation" in error("--set", "other")
    shutil.rmtree(project / "data")
    assert "data/validation/validation is missing: `dvc repro validation_data@validation`" in error()


def test_help_describes_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["judge", "--help"])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    for part in ("numpy.save", "[train, target]", "positive where the training example", "comparison.targets"):
        assert part in said
