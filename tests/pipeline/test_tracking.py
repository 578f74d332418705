"""Live tracking and backfill against a real MLflow store, for a small project with made-up outs."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study.commands import backfill as backfill_module
from study.commands.backfill import backfill
from study.context.fingerprint import fingerprint
from study.context.runs import Run
from study.networks.masked import load_network
from study.tracking import Tracker, track
from study.tracking.content import NETWORK
from study.tracking.store import KEY, PARENT, Store
from tests.installing import environment_with
from tests.pipeline.tracked_project import (
    CONTROL,
    CURVE,
    SEEDS,
    copy_without_store,
    give_store,
    make_project,
    member_key,
    stage_of,
    write_results,
    write_training,
)

pytestmark = pytest.mark.pipeline

FIRST, SECOND = SEEDS


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The default store, whatever the caller's; and a run id that must not confuse us."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TURNOVER_TRACKING", "MLFLOW_RUN_ID", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        yield


def _report(tracker: Tracker, run: Run, epoch: dict[str, float]) -> None:
    tracker.epoch(run, int(epoch["epoch"]), {key: value for key, value in epoch.items() if key != "epoch"})


def _runs(root: Path, name: str) -> list[Any]:
    store = Store(root)
    return list(store.client.search_runs([store.experiment_id], f"attributes.run_name = '{name}'"))


def _history(root: Path, run: Any, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in Store(root).client.get_metric_history(run.info.run_id, metric))


def _table(root: Path, run: Any, name: str) -> dict[str, list[Any]]:
    """A table of a run, by column."""
    table = json.loads(Path(Store(root).client.download_artifacts(run.info.run_id, name)).read_text())
    return {column: [row[at] for row in table["data"]] for at, column in enumerate(table["columns"])}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty store."""
    root = tmp_path_factory.mktemp("empty")
    Store(root)
    return root


@pytest.fixture
def project(tmp_path: Path, empty: Path) -> Path:
    """A project without results, and an empty store in it."""
    root = make_project(tmp_path / "project")
    give_store(root, empty)
    return root


@pytest.fixture
def again(complete: tuple[Path, str], empty: Path, tmp_path: Path) -> Path:
    """The complete project with an empty store."""
    root = copy_without_store(complete[0], tmp_path / "project")
    give_store(root, empty)
    return root


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with both seeds of an item tracked live, in a folder with an awkward name.

    The first epoch was in the store while the others were still to come; the second seed reports its last epoch only,
    as one that goes on where it was stopped.
    """
    root = make_project(tmp_path_factory.mktemp("tracked") / "my Jörg#1 50%41")
    with pytest.MonkeyPatch.context() as patch, track(stage_of(root, FIRST)) as tracker:
        patch.setenv("MLFLOW_RUN_ID", "0" * 32)
        tracker.resolved(device="cpu", precision="float32")
        _report(tracker, FIRST, CURVE[0])
        deadline = time.monotonic() + 120
        while not (root / "mlflow.db").exists() or not (found := _runs(root, FIRST.name)) or not found[0].data.metrics:
            assert time.monotonic() < deadline, "the first epoch never showed"
            time.sleep(0.5)
        assert found[0].info.status == "RUNNING"
        for epoch in CURVE[1:]:
            _report(tracker, FIRST, epoch)
        _report(tracker, SECOND, CURVE[2])
        for run in SEEDS:
            tracker.finished(run, member_key(root, run), write_training(root, run))
    return root


@pytest.fixture(scope="module")
def complete(tracked: Path, empty: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same with all other results, in another folder and another store, backfilled; and what the backfill said."""
    root = copy_without_store(tracked, tmp_path_factory.mktemp("complete") / "project")
    give_store(root, empty)
    write_training(root, CONTROL)
    write_results(root)
    return root, backfill(root)


def test_live_runs_are_complete(tracked: Path) -> None:
    stage = stage_of(tracked, FIRST)
    (parent,) = _runs(tracked, "mixed-head")
    assert parent.info.status == "FINISHED"
    assert parent.data.tags[KEY] == fingerprint(stage)
    assert parent.data.tags["turnover.stage"] == "train@mixed-head"
    assert parent.data.tags["turnover.device"] == "cpu"
    # Means over the seeds, whose curves are the same here.
    for name in ("train_loss", "heldout_accuracy"):
        assert _history(tracked, parent, name) == [(e["epoch"], pytest.approx(e[name], rel=1e-5)) for e in CURVE]
    assert _table(tracked, parent, "seeds.json")["run"] == [run.name for run in SEEDS]
    assert "**20 images of digits**" in parent.data.tags["mlflow.note.content"]
    assert "seeds 0, 1" in parent.data.tags["mlflow.note.content"]
    for run in SEEDS:
        (child,) = _runs(tracked, run.name)
        assert child.info.status == "FINISHED"
        assert child.data.tags[KEY] == member_key(tracked, run)
        assert child.data.tags[PARENT] == parent.info.run_id
        assert child.data.tags["turnover.origin"] == "live"
        assert child.data.params["seed"] == str(run.seed)
        assert _history(tracked, child, "train_loss") == [
            (e["epoch"], pytest.approx(e["train_loss"], rel=1e-5)) for e in CURVE
        ]
        assert child.data.metrics.keys() == {"train_loss", "heldout_accuracy"}
        assert f"Seed {run.seed}." in child.data.tags["mlflow.note.content"]
        assert _table(tracked, child, "metrics.json") == {
            "metric": ["epochs", "heldout_accuracy"],
            "value": [3, 0.37037],
        }
        (given,) = child.inputs.dataset_inputs
        assert given.dataset.name == "digits"
        assert [tag.value for tag in given.tags if tag.key == "mlflow.data.context"] == ["training"]


def test_what_a_stage_ended_with_is_the_status_of_what_had_not_finished(project: Path) -> None:
    root = project
    folder = write_training(root, FIRST)
    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        with pytest.raises(error), track(stage_of(root, FIRST)) as tracker:
            tracker.finished(FIRST, "key", folder)
            _report(tracker, SECOND, CURVE[0])
            raise error
        assert _runs(root, "mixed-head")[0].info.status == status
        assert _runs(root, SECOND.name)[0].info.status == status
    # A seed that was finished before goes below the item's new run; it is not recorded twice.
    (child,) = _runs(root, FIRST.name)
    assert child.info.status == "FINISHED"
    assert child.data.tags[PARENT] == _runs(root, "mixed-head")[0].info.run_id
    # One that was trained anew takes the place of the one with its key.
    with track(stage_of(root, FIRST)) as tracker:
        _report(tracker, FIRST, CURVE[0])
        tracker.finished(FIRST, "key", folder)
    (again,) = _runs(root, FIRST.name)
    assert again.info.run_id != child.info.run_id
    assert Store(root).finished()["key"][0] == again.info.run_id


def test_backfill_restores_what_was_live(tracked: Path, complete: tuple[Path, str]) -> None:
    root, said = complete
    # Two items, three seeds, one validation set, the findings, the report.
    assert said == "MLflow: 8 runs present, 8 added"
    (live,), (restored,) = _runs(tracked, FIRST.name), _runs(root, FIRST.name)
    assert restored.data.tags["turnover.origin"] == "backfill"
    assert restored.data.params == live.data.params
    assert restored.data.tags[KEY] == live.data.tags[KEY]
    assert [vars(d.dataset) for d in restored.inputs.dataset_inputs] == [
        vars(d.dataset) for d in live.inputs.dataset_inputs
    ]
    assert restored.data.metrics.keys() - {"memorization_real"} == live.data.metrics.keys()
    assert _history(root, restored, "train_loss") == [
        (step, pytest.approx(value, rel=1e-5)) for step, value in _history(tracked, live, "train_loss")
    ]
    assert _runs(root, "mixed-head")[0].info.run_id == restored.data.tags[PARENT]


def test_estimates_validation_and_report(complete: tuple[Path, str]) -> None:
    root, _ = complete
    client = Store(root).client
    for name, expected in ((FIRST.name, 0.25), (SECOND.name, 0.75), ("mixed-head", 0.5), (CONTROL.name, None)):
        assert _runs(root, name)[0].data.metrics.get("memorization_real") == expected
    estimates = client.list_artifacts(_runs(root, FIRST.name)[0].info.run_id)
    assert {file.path for file in estimates} == {"curve.csv", "metrics.json", "estimates.csv", NETWORK}
    (validation,), (findings,), (report,) = (_runs(root, n) for n in ("validation validation", "findings", "report"))
    assert validation.data.metrics == {"lds_one_network": 0.5}
    assert "judged by 200 networks" in validation.data.tags["mlflow.note.content"]
    claims = json.loads((root / "reports/metrics/findings.json").read_text())["claims"]
    assert _table(root, findings, "claims.json")["verdict"] == [claim["verdict"] for claim in claims]
    assert {file.path for file in client.list_artifacts(findings.info.run_id)} == {
        "claims.json",
        "findings.json",
        "tables",
    }
    assert "| P1 |" in findings.data.tags["mlflow.note.content"]
    files = {file.path for file in client.list_artifacts(validation.info.run_id)}
    assert files == {"result.json", "table.csv", "table.json", "validation-validation.png"}
    assert report.data.metrics == {"heldout_accuracy": 0.875}
    logged = {file.path for file in client.list_artifacts(report.info.run_id)}
    assert logged == {"figures", "index.html", "report.md", "explorer.html"}
    drawn = [file.path for file in client.list_artifacts(report.info.run_id, "figures")]
    assert drawn == ["figures/speed.svg", "figures/validation-validation.png"]


def test_backfill_adds_nothing_twice_and_only_what_is_missing(again: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = again
    # Live runs, then the rest.
    for run in SEEDS:
        with track(stage_of(root, run)) as tracker:
            tracker.finished(run, member_key(root, run), root / run.folder)
    assert "memorization_real" not in _runs(root, SECOND.name)[0].data.metrics
    assert len(_runs(root, "mixed-head")) == 1, "the same item again takes the place of the first"
    assert backfill(root) == "MLflow: 8 runs present, 5 added, 3 completed"
    assert _runs(root, SECOND.name)[0].data.metrics["memorization_real"] == 0.75

    with monkeypatch.context() as patch:
        patch.setattr(backfill_module, "Store", None)
        patch.setattr(backfill_module, "changed_stages", None)
        assert backfill(root) == "MLflow: 8 runs present, 0 added"
    # Deleted in the UI, or from the disk: made again.
    Store(root).client.delete_run(_runs(root, "report")[0].info.run_id)
    assert backfill(root) == "MLflow: 8 runs present, 1 added"
    shutil.rmtree(root / "mlruns")
    assert backfill(root) == "MLflow: 8 runs present, 8 added"
    assert len(_runs(root, FIRST.name)) == 1


def test_what_other_code_made_is_not_recorded(again: Path) -> None:
    root = again
    (root / "code/estimate.py").write_text("# edited\n")
    said = backfill(root)
    assert said.startswith("MLflow: 8 runs present, 8 added; not recorded, run `dvc repro` first: estimate@mixed (")
    assert "code/estimate.py" in said
    assert _runs(root, FIRST.name)[0].data.metrics.keys().isdisjoint({"memorization_real"})
    (root / "code/training.py").write_text("# edited\n")
    (root / "reports/report.md").write_text("another")
    # What is left: the validation set and the findings. No run is made of the old results and the new code.
    assert backfill(root).startswith("MLflow: 2 runs present, 0 added; not recorded")
    assert len(_runs(root, FIRST.name)) == len(_runs(root, "report")) == 1


_ELSEWHERE = """
import sys, json
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("turnover", "study", "stages"):
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Blocked())
import mlflow.pyfunc, mlflow.pytorch, numpy, torch
mlflow.set_tracking_uri(sys.argv[1])
images = numpy.load(sys.argv[2])
batches = [images[:rows] for rows in (1, 5)]
found = []
for uri in sys.argv[3:]:
    loaded, served = mlflow.pytorch.load_model(uri), mlflow.pyfunc.load_model(uri)
    found.append([[loaded(torch.from_numpy(x)).tolist(), served.predict(x).tolist()] for x in batches])
print(json.dumps(found))
"""


def test_models_load_where_this_repository_is_not(complete: tuple[Path, str], tmp_path: Path) -> None:
    import mlflow.models

    root, _ = complete
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    store = f"sqlite:///{root / 'mlflow.db'}"
    uris = ["models:/turnover-mixed-head@seed-0", f"runs:/{_runs(root, CONTROL.name)[0].info.run_id}/{CONTROL.name}"]
    command = [sys.executable, "-c", _ELSEWHERE, store, str(tmp_path / "images.npy"), *uris]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for run, batches in zip((FIRST, CONTROL), json.loads(done.stdout.splitlines()[-1]), strict=True):
        network = load_network(root / run.folder)[0].eval()
        for rows, outputs in zip((1, 5), batches, strict=True):
            with torch.no_grad():
                expected = network(torch.from_numpy(images[:rows])).tolist()
            for output in outputs:
                np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    run_id = _runs(root, FIRST.name)[0].info.run_id
    files = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{NETWORK}", tracking_uri=store))
    trained = load_network(root / FIRST.folder)[0].state_dict()
    for key, weights in load_network(files)[0].state_dict().items():
        torch.testing.assert_close(weights, trained[key], rtol=0, atol=0)
    mlflow.set_tracking_uri(store)
    try:
        info = mlflow.models.get_model_info(uris[0])
    finally:
        mlflow.set_tracking_uri(None)
    assert info.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "uint8", "shape": (-1, 1, 8, 8)}


@pytest.mark.slow
def test_a_model_predicts_in_an_environment_of_its_own_requirements(complete: tuple[Path, str], tmp_path: Path) -> None:
    """Takes the half minute in which mlflow and torch are installed: nothing else shows that they are enough."""
    import mlflow.pyfunc

    root, _ = complete
    store, uri = f"sqlite:///{root / 'mlflow.db'}", "models:/turnover-mixed-head@seed-0"
    mlflow.set_tracking_uri(store)
    try:
        asked = Path(mlflow.pyfunc.get_model_dependencies(uri, format="pip"))
    finally:
        mlflow.set_tracking_uri(None)
    names = {line.partition("==")[0] for line in asked.read_text().splitlines()}
    assert names == {"mlflow", "torch"}, "or what the model needs has changed"
    python = environment_with(tmp_path, "--requirements", asked)
    images = np.random.default_rng(1).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    script = "import sys, json, mlflow, numpy\nmlflow.set_tracking_uri(sys.argv[1])\n"
    script += "print(json.dumps(mlflow.pyfunc.load_model(sys.argv[2]).predict(numpy.load(sys.argv[3])).tolist()))"
    command = [str(python), "-I", "-c", script, store, uri, str(tmp_path / "images.npy")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = load_network(root / FIRST.folder)[0].eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-4, atol=1e-5)
