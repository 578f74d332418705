"""What a run of MLflow holds: the same for a training seen live and for one restored from its outs."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from study.context.fingerprint import content_hash
from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.store import KEY, Store, Value, flat

# What decides how results come about; the pipeline's own results change with every run and make no tree dirty.
_CODE = ("src", "stages", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements.lock")


def run_tags(stage: Stage, key: str, origin: str) -> dict[str, str]:
    """Tags of a run; `origin` is ``"live"`` or ``"backfill"``."""
    tags = {
        KEY: key,
        "turnover.stage": stage.name,
        "turnover.origin": origin,
        "mlflow.source.name": stage.declared.cmd,
        "mlflow.source.type": "LOCAL",
    }
    commit = _git(stage.root, "rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["turnover.dirty"] = str(bool(_git(stage.root, "status", "--porcelain", "--", *_CODE))).lower()
    return tags


def training_params(stage: Stage, run: Run) -> dict[str, str]:
    """The settings that made a trained network, those of its data included."""
    raw = stage.raw_params
    labels = {**raw["labels"], "noise": raw["labels"]["noise"][run.scenario]}
    made = {"scenario": run.scenario, "placement": run.placement, "seed": run.seed}
    namespaces = {"data": raw["data"], "labels": labels, "model": raw["model"], "training": raw["training"]}
    return texts({**made, **namespaces})


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Settings as MLflow keeps them: flat, and as text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat(params).items()}


def numbers(metrics: Mapping[str, Any], prefix: str) -> list[Value]:
    """The finite numbers in a metrics file, under names that MLflow takes."""
    return [
        Value(prefix + re.sub(r"[^\w./ :-]", "_", key), float(value))
        for key, value in flat(metrics, separator="/").items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def log_dataset(store: Store, run_id: str, stage: Stage, run: Run) -> None:
    """The scenario as the run's input, known by the hash of its content."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = stage.raw_params["data"]
    folder = f"data/{run.scenario}"
    dataset = Dataset(
        name=data["dataset"],
        digest=content_hash(stage.root / folder),
        source_type="local",
        source=json.dumps({"uri": folder}),
        profile=json.dumps({part: data[part] for part in ("train", "placebo", "heldout")}),
    )
    tags = [InputTag("mlflow.data.context", "training"), InputTag("scenario", run.scenario)]
    store.client.log_inputs(run_id, [DatasetInput(dataset, tags)])


def log_training(store: Store, run_id: str, root: Path, run: Run, seen: Collection[int] = ()) -> None:
    """Everything that the outs of a training say.

    Args:
        seen: epochs whose metrics the run has already.
    """
    import pandas as pd

    curve = pd.read_csv(root / f"reports/metrics/train/{run.name}.csv").set_index("epoch")
    missing = curve[~curve.index.isin(list(seen))]
    store.log(run_id, [Value(str(k), v, int(str(step))) for k in missing for step, v in missing[k].items()])
    final = json.loads((root / f"reports/metrics/train/{run.name}.json").read_text(encoding="utf-8"))
    store.log(run_id, numbers(final, "final_"))
    store.client.log_artifact(run_id, str(root / f"reports/metrics/train/{run.name}.csv"))
    log_model(store, run_id, root / f"models/{run.name}")


def log_model(store: Store, run_id: str, folder: Path) -> None:
    """The network, for `mlflow.pytorch.load_model`: takes images as stored, any number of them.

    Loading needs this repository's packages to be importable.
    """
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from study.networks.masked import load_network

    network, architecture = load_network(folder)
    # Without names, so that `mlflow.pyfunc` takes the array itself and no dictionary of one.
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, *architecture.shape))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, len(architecture.classes)))]),
    )
    with store.active(run_id):
        # Pickle rather than MLflow's default, an exported graph: it takes 0.5 s instead of 6, and keeps the hooks of
        # turn-over dropout, so that `subnetwork(loaded, ids)` works. The logged file is our own: safe to load.
        mlflow.pytorch.log_model(
            network.eval(),
            name="model",
            serialization_format="pickle",
            signature=signature,
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        )


def _git(root: Path, *arguments: str) -> str:
    """What git says, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
