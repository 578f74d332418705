"""DVC really runs the whole pipeline on a tiny configuration: what reruns, what is restored, what stays the same."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.context.declaration import read_yaml
from tests.support import Project

pytestmark = pytest.mark.pipeline

EVERYTHING = {
    "fetch",
    "corrupt@real",
    "corrupt@mixed",
    "train@real-head-0",
    "train@mixed-head-0",
    "control@real-0",
    "control@mixed-0",
    "estimate@real-head-0",
    "estimate@mixed-head-0",
    "validation_data@validation",
    "validation_data@validation_digits",
    "retrain@validation",
    "retrain@validation_digits",
    "removal",
    "validate@validation",
    "validate@validation_digits",
    "findings",
    "figures",
    "report",
}


@pytest.fixture(scope="module")
def project(make_project: Callable[[], Project]) -> Project:
    """A project whose pipeline has run once, and is committed."""
    made = make_project()
    assert made.repro() == EVERYTHING
    made.commit()
    return made


def committed_files(project: Project) -> set[str]:
    listed = project.run("git", "ls-files", "dvc.lock", "reports", "ground_truth").stdout.split()
    return set(listed)


def holds_seconds(name: str) -> bool:
    """Whether an out says how long something took: another run has others."""
    folders = ("reports/validation/", "reports/validation_digits/")
    pages = ("reports/index.html", "reports/report.md")
    return name.endswith("-cost.csv") or f"{name}/".startswith(folders) or name in pages


def lock_without_seconds(project: Project) -> Any:
    lock = read_yaml(project.root / "dvc.lock")
    for stage in lock["stages"].values():
        for kind in ("deps", "outs"):
            stage[kind] = [entry for entry in stage.get(kind, []) if not holds_seconds(entry["path"])]
    return lock


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.repro() == set()
    assert project.run("dvc", "status", "-q", check=False).returncode == 0
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_another_clone_gives_the_same_bytes(project: Project, make_project: Callable[[], Project]) -> None:
    other = make_project()
    assert other.repro() == EVERYTHING
    other.commit()
    names = committed_files(project)
    assert committed_files(other) == names
    assert {"dvc.lock", "reports/index.html", "reports/metrics/findings.json", "ground_truth/validation.npz"} <= names
    same = {name for name in names if not holds_seconds(name)} - {"dvc.lock"}
    assert len(names) - len(same) == 11  # two cost tables, two figures in three formats, two pages, and the lock
    _, different, missing = filecmp.cmpfiles(project.root, other.root, same, shallow=False)
    assert not different
    assert not missing
    assert lock_without_seconds(project) == lock_without_seconds(other)


def test_outs_that_were_lost_come_back_from_the_cache_without_a_run(project: Project) -> None:
    for folder in ("models", "scores", "data", "dynamics", "gradients"):
        shutil.rmtree(project.root / folder)
    assert project.repro() == set()
    assert (project.root / "models/mixed-head-0/model.safetensors").exists()


def test_mlflow_has_every_training_and_restores_it(project: Project) -> None:
    from mlflow import MlflowClient

    def finished() -> dict[str, int]:
        client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("turnover")
        runs = client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'")
        history = {run.info.run_name: client.get_metric_history(run.info.run_id, "heldout_accuracy") for run in runs}
        names = [run.info.run_name for run in runs]
        assert len(set(names)) == len(names)
        return {name: len(values) for name, values in history.items() if "estimate" not in name}

    trainings = {"real-head-0", "mixed-head-0", "real-dropout-0", "mixed-dropout-0"}
    live = finished()
    assert {name: live.get(name) for name in trainings} == dict.fromkeys(trainings, 3)
    project.backfill()
    before = finished()
    assert trainings <= set(before)
    (project.root / "mlflow.db").unlink()
    shutil.rmtree(project.root / "mlruns")
    assert project.repro() == set()
    project.backfill()
    assert finished() == before
    assert ", 0 added" in project.backfill()
    assert finished() == before


def test_make_check_runs_the_committed_pipeline_from_nothing_and_compares(project: Project) -> None:
    command = (sys.executable, "-m", "study.commands.reproduction")
    done = project.run(*command, PYTHONPATH=str(project.root / "src"))
    assert "Running stage 'train@mixed-head-0'" in done.stdout
    assert "Running stage 'validation_data@validation'" in done.stdout
    assert "Running stage 'retrain" not in done.stdout  # its outs are in git, and nothing it depends on has changed
    assert "every committed result came back byte for byte" in done.stdout
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_a_dead_server_does_not_stop_a_training(project: Project) -> None:
    """Forced to train again with nobody at the other end: it says so once, goes on, and gives the same bytes."""
    before = (project.root / "dvc.lock").read_bytes()
    done = project.run(
        "dvc", "repro", "--force", "--single-item", "train@real-head-0", MLFLOW_TRACKING_URI="http://127.0.0.1:9"
    )
    assert done.stderr.lower().count("warning: ") == 1, done.stderr
    assert (project.root / "dvc.lock").read_bytes() == before


# What comes after this line changes params.yaml, one change on top of the other.


def test_a_figure_setting_reruns_figures_and_report_only(project: Project) -> None:
    project.params(lambda values: values["figures"].update(difficulty_quantile=0.25))
    assert project.repro() == {"findings", "figures", "report"}


def test_a_noise_rate_reruns_its_scenario_only(project: Project) -> None:
    project.params(lambda values: values["labels"]["noise"].update(mixed=0.3))
    assert project.repro() == {
        "corrupt@mixed",
        "train@mixed-head-0",
        "control@mixed-0",
        "estimate@mixed-head-0",
        "removal",
        "findings",
        "figures",
        "report",
    }


def test_a_seed_more_trains_that_seed_only(project: Project) -> None:
    project.params(lambda values: values.update(seeds=[0, 1]))
    assert project.repro() == {
        "train@real-head-1",
        "train@mixed-head-1",
        "control@real-1",
        "control@mixed-1",
        "estimate@real-head-1",
        "estimate@mixed-head-1",
        "removal",
        "findings",
        "figures",
        "report",
    }


def test_the_summary_is_what_the_runs_say(project: Project) -> None:
    text = (project.root / "reports/metrics/summary.json").read_text()
    assert json.loads(text)
    lock = (project.root / "dvc.lock").read_text()
    assert str(project.root) not in text + lock, "a path of this machine is in a committed result"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v["labels"]["noise"].update(mixed=1.5), ("labels.noise.mixed", "1.5", "less than or equal to 1")),
        (lambda v: v["data"].update(dataset="imagenot"), ("data.dataset", "imagenot", "fashion-mnist")),
        (lambda v: v["training"].update(epoch=3), ("training.epoch ", "did you mean 'epochs'")),
        (lambda v: v.update(placements=["layer9"]), ("placements", "'layer9'", "hidden")),
        (lambda v: v["data"].update(train=10_000_000), ("data.train", "10000030", "has 1498 examples")),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_clear_sentence_before_any_computing(
    project: Project, change: Callable[[dict[str, object]], None], says: tuple[str, ...]
) -> None:
    before = (project.root / "params.yaml").read_bytes()
    try:
        project.params(change)
        done = project.run("dvc", "repro", check=False)
    finally:
        (project.root / "params.yaml").write_bytes(before)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for part in says:
        assert part in errors[0]
    assert "Traceback" not in done.stderr
    assert "training:" not in done.stdout + done.stderr


def test_no_network_says_what_was_tried_and_what_to_do(project: Project, tmp_path: Path) -> None:
    before = (project.root / "params.yaml").read_bytes()
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'no route to host' >&2; exit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    dead = "http://127.0.0.1:9"
    try:
        project.params(lambda values: values["data"].update(dataset="fashion-mnist"))
        done = project.run("dvc", "repro", check=False, PATH=path, http_proxy=dead, https_proxy=dead)
    finally:
        (project.root / "params.yaml").write_bytes(before)
    assert done.returncode != 0
    for part in ("every source failed", "mirror", "Debian", "TURNOVER_DATA", "digits"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
