"""DVC really runs the whole pipeline on a tiny configuration: what reruns, what is restored, what stays the same."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from study.context.declaration import read_yaml
from tests.pipeline.conftest import EVERYTHING
from tests.support import ROOT, Project

pytestmark = pytest.mark.pipeline

AT_THE_END = {"summarize", "figures", "report"}
TRAININGS = {stage for stage in EVERYTHING if stage.startswith("train@")}


def test_a_second_run_does_nothing(project: Project) -> None:
    assert project.repro() == set()
    assert project.run("dvc", "status", "-q", check=False).returncode == 0
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_the_committed_lock_is_small_and_names_folders() -> None:
    lock = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    stages = read_yaml(ROOT / "dvc.lock")["stages"]
    assert lock.count("\n") <= 2700
    assert len(stages) <= 36
    assert (ROOT / "dvc.yaml").read_text(encoding="utf-8").count("\n") <= 290
    code = {dep["path"] for stage in stages.values() for dep in stage["deps"] if dep["path"].startswith("src/")}
    assert code
    assert not [path for path in code if path.endswith(".py")]


def test_outs_that_were_lost_come_back_from_the_cache_without_a_run(project: Project) -> None:
    for folder in ("runs", "scores", "data", "made-by"):
        shutil.rmtree(project.root / folder)
    assert project.repro() == set()
    assert (project.root / "runs/mixed/head/0/model.safetensors").exists()


def test_make_check_runs_the_committed_pipeline_from_nothing_and_compares(project: Project) -> None:
    """Another clone, which has no finished members, gives the same bytes."""
    command = (sys.executable, "-m", "study.commands.reproduction")
    done = project.run(*command, PYTHONPATH=str(project.root / "src"), TURNOVER_TRACKING="off")
    assert "Running stage 'train@mixed-head'" in done.stdout
    assert "Running stage 'validation_data@validation'" in done.stdout
    assert "Running stage 'retrain" not in done.stdout  # its outs are in git, and nothing it depends on has changed
    assert "every committed result came back byte for byte" in done.stdout
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_no_path_of_this_machine_is_in_a_committed_result(project: Project) -> None:
    for name in project.run("git", "ls-files", "dvc.lock", "reports").stdout.split():
        assert str(project.root).encode() not in (project.root / name).read_bytes(), name


@contextmanager
def edited(project: Project, *changes: tuple[str, str, str]) -> Iterator[None]:
    """Within: texts in files of the project are others; afterwards files and lock are as before."""
    names = ("dvc.lock", "params.yaml", *(name for name, _, _ in changes))
    before = {name: (project.root / name).read_bytes() for name in names}
    try:
        for name, old, new in changes:
            text = (project.root / name).read_text(encoding="utf-8")
            assert old in text, f"{name} holds no {old!r}"
            (project.root / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        yield
    finally:
        for name, content in before.items():
            (project.root / name).write_bytes(content)
        project.run("git", "checkout", "--", "reports", "dvc.lock")
        project.run("git", "clean", "--force", "-d", "--quiet", "reports", "ground_truth")
        project.run("dvc", "checkout", "--force")


def outs_of(project: Project, *stages: str) -> dict[str, list[object]]:
    lock = read_yaml(project.root / "dvc.lock")["stages"]
    return {stage: lock[stage]["outs"] for stage in stages}


def finished(project: Project) -> dict[str, float]:
    """When each finished member was made, by stage, name and key: ``train/mixed-head-0-5bbb...``."""
    stores = project.root / ".checkpoints"
    return {path.parent.relative_to(stores).as_posix(): path.stat().st_mtime for path in stores.glob("*/*/member.json")}


def test_words_and_tracking_retrain_nothing(project: Project) -> None:
    """A comment in the training loop, a docstring of it, and other tracking code.

    DVC runs the trainings, whose folders changed, and they take what was finished: the same bytes, so nothing after
    them runs but `validate`, which uses the library whole, and takes its finished results too.
    """
    before, made = outs_of(project, *TRAININGS), finished(project)
    loop, store = "src/turnover/training/loop.py", "src/study/tracking/store.py"
    first = (project.root / loop).read_text(encoding="utf-8").splitlines()[0]
    with edited(
        project,
        (loop, first, first.replace('"""', '"""Another word: ', 1)),
        (loop, "\ndef train(", "\n# a comment\ndef train("),
        (store, "\nclass Store", "\nANOTHER = 1\n\n\nclass Store"),
    ):
        assert project.repro() == TRAININGS | {"validate@validation"}
        assert outs_of(project, *TRAININGS) == before
        assert finished(project) == made


def test_tracking_code_alone_runs_nothing(project: Project) -> None:
    with edited(project, ("src/study/tracking/store.py", "\nclass Store", "\nANOTHER = 1\n\n\nclass Store")):
        assert project.run("dvc", "status", "-q", check=False).returncode == 0


def test_what_training_does_is_trained_again(project: Project) -> None:
    """The other direction: a change of what the code does reaches the weights, and would reach all that follows."""
    before = outs_of(project, "train@real-dropout")
    warm_up = ("src/turnover/training/optimization.py", "    warm_up = 0.2", "    warm_up = 0.4")
    with edited(project, warm_up):
        done = project.run("dvc", "repro", "--single-item", "train@real-dropout", TURNOVER_TRACKING="off")
        assert "Running stage 'train@real-dropout'" in done.stdout
        assert outs_of(project, "train@real-dropout") != before
        stale = project.run("dvc", "status", check=False).stdout
        assert "estimate@real:" in stale


def test_a_colour_reruns_figures_and_report_only(project: Project) -> None:
    with edited(project, ("src/study/figures/palette.py", '"#d55e00"', '"#00ff00"')):
        assert project.repro() == {"figures", "report"}
        assert project.run("git", "diff", "--name-only", "reports/figures").stdout.count(".svg") > 3


def test_a_validation_set_more_reruns_what_shows_it(project: Project) -> None:
    with edited(project):
        project.params(lambda values: values.update(validation_sets=["validation", "validation_digits"]))
        new = {f"{stage}@validation_digits" for stage in ("validation_data", "retrain", "judges", "validate")}
        assert project.repro() == new | AT_THE_END
        assert "validation_digits" in (project.root / "reports/report.md").read_text(encoding="utf-8")


def test_a_dead_server_does_not_stop_a_training(project: Project) -> None:
    """Forced to train again with nobody at the other end: it says so once, goes on, and gives the same bytes."""
    before, made = (project.root / "dvc.lock").read_bytes(), finished(project)
    for member in (project.root / ".checkpoints" / "train").glob("real-head-0-*"):
        shutil.rmtree(member)
    dead = {"TURNOVER_TRACKING": "on", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = project.run("dvc", "repro", "--force", "--single-item", "train@real-head", **dead)
    assert done.stderr.lower().count("warning: ") == 1, done.stderr
    assert (project.root / "dvc.lock").read_bytes() == before
    again = finished(project)
    assert {name.rpartition("-")[0] for name in again if again[name] != made.get(name)} == {"train/real-head-0"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v["labels"]["noise"].update(mixed=1.5), ("labels.noise.mixed", "1.5", "less than or equal to 1")),
        (lambda v: v["data"].update(dataset="imagenot"), ("data.dataset", "imagenot", "fashion-mnist")),
        (lambda v: v["training"].update(epoch=3), ("training.epoch ", "did you mean 'epochs'")),
        (lambda v: v.update(placements=["layer9"]), ("placements", "'layer9'", "hidden")),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_clear_sentence_before_any_computing(
    project: Project, change: Callable[[dict[str, object]], None], says: tuple[str, ...]
) -> None:
    errors = refused(project, change, sys.executable, "-m", "study.commands.prepare")
    for part in says:
        assert part in errors


def test_more_examples_than_there_are_is_one_clear_sentence(project: Project) -> None:
    errors = refused(project, lambda v: v["data"].update(train=10_000_000), "dvc", "repro")
    for part in ("data.train", "10000030", "has 1498 examples"):
        assert part in errors


def refused(project: Project, change: Callable[[dict[str, object]], None], *command: str) -> str:
    """The one sentence with which a command refuses changed settings; nothing was computed or removed."""
    before = (project.root / "params.yaml").read_bytes()
    try:
        project.params(change)
        done = project.run(*command, check=False, PYTHONPATH=str(project.root / "src"))
    finally:
        (project.root / "params.yaml").write_bytes(before)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "removing" not in done.stdout
    return errors[0]


def test_no_network_says_what_was_tried_and_what_to_do(project: Project, tmp_path: Path) -> None:
    before = (project.root / "params.yaml").read_bytes()
    (tmp_path / "apt-get").write_text("#!/bin/sh\necho 'no route to host' >&2; exit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    dead = "http://127.0.0.1:9"
    try:
        project.params(lambda values: values["data"].update(dataset="fashion-mnist"))
        done = project.run("dvc", "repro", "fetch", check=False, PATH=path, http_proxy=dead, https_proxy=dead)
    finally:
        (project.root / "params.yaml").write_bytes(before)
        project.run("dvc", "checkout", "--force")
    assert done.returncode != 0
    for part in ("every source failed", "mirror", "Debian", "TURNOVER_DATA", "digits"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_embeddings_go_through_to_a_report_that_opens_with_suspects(project: Project) -> None:
    """Half a minute: everything but the validation runs, on another kind of data."""
    digits = load_digits()
    turned = np.random.default_rng(0).normal(size=(64, 50))
    np.savez(project.root / "vectors.npz", embeddings=(digits.data @ turned).astype(np.float32), labels=digits.target)
    try:
        with edited(project):

            def change(values: dict[str, dict[str, object]]) -> None:
                values["data"].update(dataset="features:vectors.npz")
                values["model"].update(name="mlp", options={"hidden": 64, "layers": 1})
                values["scenarios"] = ["real"]  # type: ignore[assignment]

            project.params(change)
            assert {"fetch", "train@real-head", "figures", "explorer", "report"} <= project.repro()
            table = pd.read_csv(project.root / "reports/figures/suspects.csv")
            assert len(table) == 12 and table["name"].between(0, len(digits.target) - 1).all()
            assert (digits.target[table["name"]] == table["given_name"]).all()
            report = (project.root / "reports/report.md").read_text(encoding="utf-8")
            assert report.startswith("# Labels to look at first\n\nOf 120 training examples of features:vectors.npz")
            curve = pd.read_csv(project.root / "reports/curves/real-head.csv")
            assert curve["heldout_accuracy"].iloc[-1] > 0.4, "features say what the class is; chance is .1"
    finally:
        (project.root / "vectors.npz").unlink()


def test_noise_and_a_seed_more_rerun_what_they_reach_and_train_what_is_new(project: Project) -> None:
    """The last test: it leaves the project changed."""
    made = finished(project)

    def change(values: dict[str, dict[str, dict[str, object]]]) -> None:
        values["labels"]["noise"].update(mixed=0.3)
        values["seeds"].update(head=[0, 1])  # type: ignore[call-overload]

    project.params(change)
    assert project.repro("estimate@real", "estimate@mixed") == {
        "corrupt@mixed",
        "train@real-head",
        "train@real-dropout",  # `seeds` is one of its settings; its only seed was finished before
        "train@mixed-head",
        "train@mixed-dropout",
        "estimate@real",
        "estimate@mixed",
    }
    stale = set(re.findall(r"^(\S+):$", project.run("dvc", "status", check=False).stdout, re.MULTILINE))
    assert stale == {"removal", "findings", "explorer", *AT_THE_END}
    again = finished(project)
    new = {name.rpartition("-")[0] for name in again.keys() - made.keys()}
    trained = {name for name in new if name.startswith("train/")}
    assert trained == {f"train/{run}" for run in ("real-head-1", "mixed-head-0", "mixed-head-1", "mixed-dropout-0")}
    assert "estimate/real-head-1" in new
    assert "estimate/real-head-0" not in new
