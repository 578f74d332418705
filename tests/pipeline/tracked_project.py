"""A small repository with results that nobody trained, an empty MLflow store for it, and a DVC lock for both."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from study.artefacts.files import write_csv, write_json
from study.context.fingerprint import fingerprint, hash_of
from study.context.params import ModelParams
from study.context.runs import Run
from study.context.stage import Stage
from study.data.scenarios.scenario import Scenario, save_scenario
from study.networks.masked import Architecture, make_network, save_network
from tests.support import ROOT

SEEDS = [Run("mixed", "head", 0), Run("mixed", "head", 1)]
CONTROL = Run("mixed", "dropout", 0)
CURVE = [{"epoch": n, "train_loss": 1 / 3 / n, "heldout_accuracy": 0.123456789 * n} for n in (1, 2, 3)]

# Stages, settings and outs have the names of the real file; commands that nobody runs, and one file instead of code.
_DVC = """
stages:
  train:
    matrix: {scenario: ["mixed"], placement: ["head", "dropout"]}
    cmd: python -m stages.train --scenario ${item.scenario} --placement ${item.placement}
    params: [seeds, model, training]
    deps: ["data/scenarios/${item.scenario}", code/training.py]
    outs: ["runs/${item.scenario}/${item.placement}", "made-by/${item.scenario}-${item.placement}.json"]
  estimate:
    matrix: {scenario: ["mixed"]}
    cmd: python -m stages.estimate --scenario ${item.scenario}
    deps: ["runs/${item.scenario}", code/estimate.py]
    outs: ["scores/${item.scenario}"]
  validate:
    matrix: {validation_set: ["validation"]}
    cmd: python -m stages.validate --validation_set ${item.validation_set}
    deps: [code/validate.py]
    plots: ["reports/validation/${item.validation_set}": {cache: false}]
  findings:
    cmd: python -m stages.findings
    deps: [scores]
    outs: [reports/metrics/findings.json: {cache: false}, reports/metrics/findings: {cache: false}]
  summarize:
    cmd: python -m stages.summarize
    deps: [scores]
    metrics: [reports/headline.json: {cache: false}]
  figures:
    cmd: python -m stages.figures
    deps: [scores]
    plots: [reports/figures: {cache: false}]
  report:
    cmd: python -m stages.report
    deps: [reports/figures]
    outs: [reports/index.html: {cache: false}, reports/report.md: {cache: false}]
"""


def make_project(root: Path) -> Path:
    """The repository without results."""
    root.mkdir(parents=True)
    (root / "dvc.yaml").write_text(_block_style(_DVC))
    for name in ("training", "estimate", "validate"):
        (root / "code").mkdir(exist_ok=True)
        (root / f"code/{name}.py").write_text("# code\n")
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load(ROOT / "params.yaml")
    params.update(scenarios=["mixed"], placements=["head", "dropout"], validation_sets=["validation"])
    params["seeds"] = {"head": [0, 1], "other": [0]}
    params["data"].update(dataset="digits", train=20, placebo=4, heldout=10)
    params["training"].update(epochs=3, batch_size=10)
    params["estimate"]["influence"].update(targets=10, targets_all_layers=5)
    params["model"].update(name="cnn", options={"channels": [4, 8, 8], "hidden": 16})
    yaml.dump(params, root / "params.yaml")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (34, 1, 8, 8), dtype=np.uint8)
    splits = ["train"] * 20 + ["placebo"] * 4 + ["heldout"] * 10
    labels = rng.integers(0, 10, 34)
    examples = pd.DataFrame({"id": range(34), "split": splits, "given": labels, "original": labels, "is_random": False})
    save_scenario(Scenario("mixed", images, examples, tuple("0123456789"), "digits"), root / "data/scenarios/mixed")
    return root


def stage_of(root: Path, run: Run) -> Stage:
    """The item of stage `train` that a seed belongs to."""
    return Stage(root, "train", {"scenario": run.scenario, "placement": run.placement})


def member_key(root: Path, run: Run) -> str:
    """The fingerprint of one seed."""
    return hash_of({"stage": fingerprint(stage_of(root, run)), "seed": run.seed})


def write_training(root: Path, run: Run) -> Path:
    """What the training of a seed would have written. Returns its folder."""
    folder = root / run.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    model = ModelParams.model_validate(stage_of(root, run).raw_params["model"])
    architecture = Architecture(run, model, (1, 8, 8), tuple("0123456789"), (0.5,), (0.2,))
    save_network(make_network(architecture), architecture, folder)
    write_csv(folder / "curve.csv", pd.DataFrame(CURVE))
    write_json(folder / "metrics.json", {"epochs": 3, "heldout_accuracy": 0.37037})
    made_by = root / f"made-by/{run.scenario}-{run.placement}.json"
    made_by.parent.mkdir(exist_ok=True)
    keys = json.loads(made_by.read_text()) if made_by.exists() else {}
    write_json(made_by, {**keys, str(run.seed): member_key(root, run)})
    return folder


def write_results(root: Path) -> None:
    """Everything else that the pipeline would have written, and a lock that says so."""
    committed = {
        f"metrics/{name}": (ROOT / "reports/metrics" / name).read_text(encoding="utf-8")
        for name in ("findings.json", "summary.json", "findings/effects.csv")
    }
    for run in SEEDS:
        (root / run.scores).mkdir(parents=True, exist_ok=True)
        mean = {"probability": 0.25 + run.seed / 2, "loss": 1.0}
        write_json(root / run.scores / "metrics.json", {"memorization": {"real": mean}})
    reports = {
        **committed,
        "validation/validation/table.csv": "method,networks,lds\nturn-over combined,1,0.5\ntheirs,1,\n",
        "validation/validation/result.json": json.dumps({"noise_ceiling": 0.75, "name": "validation"}),
        "figures/validation-validation.png": "",
        "figures/speed.svg": "",
        "figures/speed.csv": "",
        "headline.json": json.dumps({"heldout_accuracy": 0.875}),
        "index.html": "",
        "explorer.html": "",
        "report.md": "",
    }
    for name, text in reports.items():
        (root / "reports" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "reports" / name).write_text(text)
    dvc(root, "init", "--no-scm", "--quiet", "--force")
    dvc(root, "commit", "--force", "--quiet")


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True)


def copy_without_store(root: Path, to: Path) -> Path:
    """The same repository where MLflow has nothing."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
    return to


def give_store(root: Path, empty: Path) -> None:
    """An empty store for the repository: the database of the folder `empty`, because making one takes seconds."""
    shutil.copy(empty / "mlflow.db", root)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute("UPDATE experiments SET artifact_location = ?", ((root / "mlruns").as_uri(),))
        database.commit()


def _block_style(text: str) -> str:
    """DVC cannot read its own templates inside of brackets."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.representer.sort_base_mapping_type_on_output = False
    loaded: dict[str, Any] = yaml.load(text)
    written = io.StringIO()
    yaml.dump(loaded, written)
    return written.getvalue()
