"""Live tracking and backfill against a real MLflow store, for a tiny project with made-up outs."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from study.artefacts.files import write_csv, write_json
from study.commands import backfill as backfill_module
from study.commands.backfill import backfill
from study.context.fingerprint import fingerprint
from study.context.params import ModelParams
from study.context.runs import Run
from study.context.stage import Stage
from study.data.scenarios.scenario import Scenario, save_scenario
from study.networks.masked import Architecture, load_network, make_network, save_network
from study.tracking import Tracker, track
from study.tracking import recorder as recorder_module
from study.tracking.recorder import record
from study.tracking.store import KEY, Store, TrackingError
from turnover import subnetwork

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).resolve().parents[2]
MASKED, CONTROL = Run("mixed", "head", 0), Run("mixed", "dropout", 0)
CURVE = [{"epoch": n, "train_loss": 1 / 3 / n, "heldout_accuracy": 0.123456789 * n} for n in (1, 2, 3)]


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """The default store, whatever the caller's; and a run id that must not confuse us."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TURNOVER_TRACKING", "MLFLOW_RUN_ID"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        patch.setattr(backfill_module, "silence", lambda: None)  # it would silence pytest's own process
        yield


def _project(root: Path) -> Path:
    """A repository without results: settings, code and one scenario of noise images."""
    root.mkdir()
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    for folder in ("src", "stages"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(REPOSITORY / "params.yaml")
    params.update(scenarios=["mixed"], placements=["head"], seeds=[0])
    params["data"].update(dataset="digits", train=20, placebo=4, heldout=10)
    params["training"].update(epochs=3, batch_size=10)
    params["estimate"]["influence"].update(targets=10, targets_all_layers=5)
    params["model"].update(name="cnn", options={"channels": [4, 8, 8], "hidden": 16})
    yaml.dump(params, root / "params.yaml")

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (34, 1, 8, 8), dtype=np.uint8)
    splits = ["train"] * 20 + ["placebo"] * 4 + ["heldout"] * 10
    examples = pd.DataFrame({"id": range(34), "split": splits, "given": rng.integers(0, 10, 34)})
    save_scenario(Scenario("mixed", images, examples, tuple("0123456789"), "digits"), root / "data/mixed")
    return root


def _stage(root: Path, run: Run) -> Stage:
    item = {"scenario": run.scenario, "seed": str(run.seed)}
    return (
        Stage(root, "control", item) if run == CONTROL else Stage(root, "train", {**item, "placement": run.placement})
    )


def _write_outs(root: Path, run: Run) -> None:
    """What a training would have written."""
    model = ModelParams.model_validate(Stage(root, "fetch", {}).raw_params["model"])
    architecture = Architecture(run, model, (1, 8, 8), tuple("0123456789"), (0.5,), (0.2,))
    save_network(make_network(architecture), architecture, fingerprint(_stage(root, run)), root / f"models/{run.name}")
    (root / "reports/metrics/train").mkdir(parents=True, exist_ok=True)
    write_csv(root / f"reports/metrics/train/{run.name}.csv", pd.DataFrame(CURVE))
    write_json(root / f"reports/metrics/train/{run.name}.json", {"epochs": 3, "heldout_accuracy": 0.37037})
    if run == MASKED:
        for out in (f"dynamics/{run.name}.parquet", f"gradients/{run.name}.safetensors"):
            (root / out).parent.mkdir(exist_ok=True)
            (root / out).touch()


def _report(tracker: Tracker, epoch: dict[str, float]) -> None:
    tracker.epoch(int(epoch["epoch"]), {key: value for key, value in epoch.items() if key != "epoch"})


def _runs(root: Path, name: str) -> list[Any]:
    store = Store(root)
    return list(store.client.search_runs([store.experiment_id], f"attributes.run_name = '{name}'"))


def _history(root: Path, run: Any, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in Store(root).client.get_metric_history(run.info.run_id, metric))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one training tracked live; it saw its first epoch in the store while it was running."""
    root = _project(tmp_path_factory.mktemp("tracked") / "project")
    with pytest.MonkeyPatch.context() as patch, track(_stage(root, MASKED), MASKED) as tracker:
        patch.setenv("MLFLOW_RUN_ID", "0" * 32)
        tracker.resolved(device="cpu", precision="float32")
        _report(tracker, CURVE[0])
        patch.delenv("MLFLOW_RUN_ID")
        deadline = time.monotonic() + 120
        while not (found := _runs(root, MASKED.name)) or not found[0].data.metrics:
            assert time.monotonic() < deadline, "the first epoch never showed"
            time.sleep(0.5)
        assert found[0].info.status == "RUNNING"
        for epoch in CURVE[1:]:
            _report(tracker, epoch)
        _write_outs(root, MASKED)
        tracker.results()
    return root


def test_live_run_is_complete(tracked: Path) -> None:
    (run,) = _runs(tracked, MASKED.name)
    assert run.info.status == "FINISHED"
    assert run.data.tags[KEY] == fingerprint(_stage(tracked, MASKED))
    assert run.data.tags["turnover.stage"] == "train@mixed-head-0"
    assert run.data.tags["turnover.origin"] == "live"
    assert run.data.tags["turnover.device"] == "cpu"
    assert _history(tracked, run, "train_loss") == [(e["epoch"], e["train_loss"]) for e in CURVE]
    assert run.data.metrics["final_heldout_accuracy"] == 0.37037
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "digits"
    assert [tag.value for tag in given.tags if tag.key == "mlflow.data.context"] == ["training"]


def test_model_loads_and_predicts(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.pyfunc
    import mlflow.pytorch

    (run,) = _runs(tracked, MASKED.name)
    uri = f"runs:/{run.info.run_id}/model"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked / 'mlflow.db'}")
    loaded, served = mlflow.pytorch.load_model(uri), mlflow.pyfunc.load_model(uri)
    network, _ = load_network(tracked / f"models/{MASKED.name}")
    network.eval()
    for rows in (1, 5):
        images = torch.randint(0, 256, (rows, 1, 8, 8), dtype=torch.uint8)
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)
            with subnetwork(loaded, range(rows)), subnetwork(network, range(rows)):
                torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)
        np.testing.assert_allclose(
            served.predict(images.numpy()), network(images).detach().numpy(), rtol=1e-5, atol=1e-6
        )
    assert served.metadata.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "uint8", "shape": (-1, 1, 8, 8)}


def test_a_live_run_is_not_backfilled(tracked: Path) -> None:
    assert backfill(tracked).startswith("MLflow: 1 runs present, 0 added; not recorded")
    assert len(_runs(tracked, MASKED.name)) == 1


def test_backfill_restores_the_live_run(tracked: Path, tmp_path: Path) -> None:
    (live,) = _runs(tracked, MASKED.name)
    root = tmp_path / "project"
    shutil.copytree(tracked, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
    _write_outs(root, CONTROL)
    done = backfill(root)
    assert done.startswith("MLflow: 2 runs present, 2 added; not recorded")
    assert "estimate@mixed-head-0 (" in done
    (restored,) = _runs(root, MASKED.name)
    assert restored.info.status == "FINISHED"
    assert restored.data.tags["turnover.origin"] == "backfill"
    assert restored.data.params == live.data.params
    assert restored.data.tags[KEY] == live.data.tags[KEY]
    assert [vars(d.dataset) for d in restored.inputs.dataset_inputs] == [
        vars(d.dataset) for d in live.inputs.dataset_inputs
    ]
    assert restored.data.metrics.keys() == live.data.metrics.keys()
    for metric in ("train_loss", "heldout_accuracy"):
        assert _history(root, restored, metric) == [
            (step, pytest.approx(value, rel=1e-5)) for step, value in _history(tracked, live, metric)
        ]
    assert len(restored.outputs.model_outputs) == len(live.outputs.model_outputs) == 1

    assert backfill(root).startswith("MLflow: 2 runs present, 0 added")
    shutil.rmtree(root / "mlruns")
    assert backfill(root).startswith("MLflow: 2 runs present, 2 added")
    assert len(_runs(root, MASKED.name)) == 1

    # Outs that other code or settings made are not recorded as if the current ones had.
    about = root / f"models/{MASKED.name}/model.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "fingerprint": "another"}))
    assert "train@mixed-head-0 (made by other code, data or settings)" in backfill(root)


def test_estimates_and_report_are_backfilled(tracked: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(tracked, root)
    for path in ("mlflow.db", "mlflow.db.lock"):
        (root / path).unlink()
    shutil.rmtree(root / "mlruns")
    _write_outs(root, CONTROL)
    (root / "scores/mixed-head-0").mkdir(parents=True)
    for folder in ("estimate", "train"):
        (root / f"reports/metrics/{folder}").mkdir(exist_ok=True)
    (root / "reports/figures").mkdir()
    for name in ("figures/a.png", "figures/a.csv", "index.html", "report.md"):
        (root / "reports" / name).touch()
    write_json(root / "reports/metrics/estimate/mixed-head-0.json", {"memorization": {"mean": 0.25}})
    write_json(root / "reports/metrics/summary.json", {"auroc": 0.9})
    claim = {"key": "faster", "main": {"effect": {"mean": 0.5}}, "p_holm": 0.25}
    write_json(root / "reports/metrics/findings.json", {"claims": [claim]})
    for path in (root / dep for dep in Stage(root, "report", {}).declared.deps):
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    assert backfill(root) == "MLflow: 4 runs present, 4 added"
    (estimate,) = _runs(root, "estimate mixed-head-0")
    assert estimate.data.metrics == {"estimate/memorization/mean": 0.25}
    (report,) = _runs(root, "report")
    assert report.data.metrics == {"summary/auroc": 0.9, "findings/faster/effect": 0.5, "findings/faster/p": 0.25}
    client = Store(root).client
    assert {file.path for file in client.list_artifacts(report.info.run_id)} == {"figures", "index.html", "report.md"}
    assert [file.path for file in client.list_artifacts(report.info.run_id, "figures")] == ["figures/a.png"]


def _lines(*messages: dict[str, Any]) -> list[str]:
    return [json.dumps(message) for message in messages]


def test_retraining_replaces_the_run(tmp_path: Path) -> None:
    root = _project(tmp_path / "project")
    _write_outs(root, CONTROL)
    stage = _stage(root, CONTROL)
    done = _lines({"event": "results"}, {"event": "end", "status": "FINISHED"})
    record(done, stage, CONTROL)
    (first,) = _runs(root, CONTROL.name)
    # A resumed training reports the last epochs only: the others come from the curve.
    assert [step for step, _ in _history(root, first, "train_loss")] == [1, 2, 3]
    record(done, stage, CONTROL)
    (second,) = _runs(root, CONTROL.name)
    assert second.info.run_id != first.info.run_id

    # Killed (the pipe just ends), failed, and an error while recording: none of them counts as done.
    record(_lines({"event": "epoch", "number": 1, "metrics": {"train_loss": 1.0}, "time": 0.0}), stage, CONTROL)
    record(_lines({"event": "end", "status": "FAILED"}), stage, CONTROL)
    shutil.rmtree(root / f"models/{CONTROL.name}")
    with pytest.raises(Exception, match="is missing or corrupt"):
        record(done, stage, CONTROL)
    statuses = sorted(run.info.status for run in _runs(root, CONTROL.name))
    assert statuses == ["FAILED", "FAILED", "FINISHED", "KILLED"]
    assert Store(root).finished() == {fingerprint(stage): [second.info.run_id]}


def test_a_database_of_another_folder_is_refused(tracked: Path, tmp_path: Path) -> None:
    shutil.copy(tracked / "mlflow.db", tmp_path)
    with pytest.raises(TrackingError, match="made elsewhere"):
        Store(tmp_path)


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--dry", 2)])
@pytest.mark.parametrize("module", [backfill_module, recorder_module])
def test_asking_for_help_or_for_what_there_is_not_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    module: ModuleType, argument: str, status: int,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["module", argument])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == status
    said = capsys.readouterr()
    assert f"python -m {module.__name__}" in said.out + said.err
    assert not list(tmp_path.iterdir())


def test_a_dead_server_gives_one_warning(
    tracked: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with track(_stage(tracked, MASKED), MASKED) as tracker:
        _report(tracker, CURVE[0])
        tracker.results()
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(
        "warning: this training is not tracked in MLflow (the server that MLFLOW_TRACKING_URI names"
    )

    monkeypatch.chdir(tracked)
    monkeypatch.setattr(sys, "argv", ["backfill"])
    assert backfill_module.main() == 0
    error = capfd.readouterr().err
    assert error.startswith("warning: MLflow was not brought up to date (the server")


def test_an_unwritable_database_gives_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be written"):
        Store(tmp_path)


def test_processes_that_create_the_database_together(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from study.tracking.store import Store; Store(Path(sys.argv[1]))"
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY / "src") for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
