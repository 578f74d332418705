"""What a run of MLflow holds: the same for a training seen live and for one restored from its outs."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.context.fingerprint import content_hash
from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.metrics import flat, means, numbers, training_metrics
from study.tracking.store import EXPERIMENT, Store, Value

# What decides how results come about; the pipeline's own results change with every run and make no tree dirty.
_CODE = ("src", "stages", "params.yaml", "dvc.yaml", "pyproject.toml", "requirements.lock")

NETWORK = "network"  # the folder of a training's run that `study.networks.masked.load_network` takes


@dataclass(frozen=True)
class Results:
    """What a training's folder says of it, read at once: the folder may be moved before MLflow is ready for it."""

    curve: str
    final: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Results:
        """
        Raises:
            OSError: a file is missing.
            ValueError: a file is no JSON.
        """
        return cls((folder / "curve.csv").read_text(encoding="utf-8"), read_json(folder / "metrics.json"))


def read_json(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def run_tags(stage: Stage, origin: str) -> dict[str, str]:
    """Tags of a run; `origin` is ``"live"`` or ``"backfill"``."""
    tags = {
        "turnover.stage": stage.name,
        "turnover.origin": origin,
        "mlflow.source.name": stage.declared.cmd,
        "mlflow.source.type": "LOCAL",
    }
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        tags[EXPERIMENT] = experiment
    commit = _git(stage.root, "rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["turnover.dirty"] = str(bool(_git(stage.root, "status", "--porcelain", "--", *_CODE))).lower()
    return tags


def item_name(stage: Stage) -> str:
    """Name of the run above those of an item's seeds, such as ``mixed-head``."""
    return f"{stage.item['scenario']}-{stage.item['placement']}"


def training_params(stage: Stage, run: Run | None = None) -> dict[str, str]:
    """The settings that made a trained network, those of its data included; without `run` those of all its item."""
    raw = stage.raw_params
    labels = {**raw["labels"], "noise": raw["labels"]["noise"][stage.item["scenario"]]}
    made = stage.item if run is None else {**stage.item, "seed": run.seed}
    return texts({**made, "labels": labels, **{key: raw[key] for key in ("data", "model", "training")}})


def texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Settings as MLflow keeps them: flat, and as text."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat(params).items()}


def log_dataset(store: Store, run_id: str, stage: Stage) -> None:
    """The scenario as the run's input, known by the hash of its content."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data, scenario = stage.raw_params["data"], stage.item["scenario"]
    folder = f"data/scenarios/{scenario}"
    dataset = Dataset(
        name=data["dataset"],
        digest=content_hash(stage.root / folder),
        source_type="local",
        source=json.dumps({"uri": folder}),
        profile=json.dumps({part: data[part] for part in ("train", "placebo", "heldout")}),
    )
    tags = [InputTag("mlflow.data.context", "training"), InputTag("scenario", scenario)]
    store.client.log_inputs(run_id, [DatasetInput(dataset, tags)])


def log_training(store: Store, run_id: str, results: Results, seen: Collection[int] = ()) -> None:
    """What the folder of a training says: its curve, few numbers as metrics, and all final ones as a table.

    Args:
        seen: epochs whose metrics the run has already.
    """
    curve = of_epochs(results.curve)
    values = [
        Value(name, value, epoch) for epoch, of in curve.items() if epoch not in seen for name, value in of.items()
    ]
    store.log(run_id, [*values, *values_of(training_metrics(results.final))])
    store.client.log_text(run_id, results.curve, "curve.csv")
    final = numbers(results.final)
    store.client.log_table(run_id, {"metric": list(final), "value": list(final.values())}, "metrics.json")


def log_item(store: Store, run_id: str, results: Mapping[str, Results]) -> None:
    """Of all seeds: means of their curves and of the few numbers that are compared, and all final ones as a table."""
    curves = [of_epochs(of.curve) for of in results.values()]
    epochs = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    mean = {epoch: means([curve[epoch] for curve in curves]) for epoch in epochs}
    values = [Value(name, value, epoch) for epoch, of in mean.items() for name, value in of.items()]
    few = means([training_metrics(of.final) for of in results.values()])
    store.log(run_id, [*values, *values_of(few)])
    rows = {name: numbers(of.final) for name, of in results.items()}
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = {"run": list(rows), **{name: [row.get(name) for row in rows.values()] for name in columns}}
    store.client.log_table(run_id, table, "seeds.json")


def of_epochs(curve: str) -> dict[int, dict[str, float]]:
    """The metrics of every epoch in the text of a `curve.csv`."""
    rows = csv.DictReader(io.StringIO(curve))
    return {int(row.pop("epoch")): {name: float(value) for name, value in row.items() if value} for row in rows}


def log_rows(store: Store, run_id: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """A table that MLflow shows beside those of other runs; only once a run, because MLflow appends."""
    store.client.log_table(run_id, {column: [row[column] for row in rows] for column in rows[0]}, name)


def values_of(metrics: Mapping[str, float]) -> list[Value]:
    return [Value(name, value) for name, value in metrics.items()]


def log_model(store: Store, run_id: str, root: Path, run: Run) -> None:
    """The network as its files, and the full network as an MLflow model that takes any number of images as stored.

    From the model turn-over dropout is taken out, so that plain torch operations are left, which torch.export writes
    down; whoever loads it needs torch and MLflow only. What is written has no pickle, but a loader would run one that
    somebody else put there. `load_network` opens the files, weights and JSON, and runs nothing, whoever wrote them. The
    first export of a process costs seconds of imports.
    """
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from study.networks.masked import load_network
    from turnover.masking.insertion import remove

    network, architecture = load_network(root / run.folder)
    for name in ("model.safetensors", "model.json"):
        store.client.log_artifact(run_id, str(root / run.folder / name), NETWORK)
    # Without names, so that `mlflow.pyfunc` takes the array itself and no dictionary of one.
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, *architecture.shape))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, len(architecture.classes)))]),
    )
    with store.active(run_id):
        mlflow.pytorch.log_model(
            # Channels first again: the export warns of weights in another order.
            remove(network).eval().to(memory_format=torch.contiguous_format),
            name=run.name,
            serialization_format="pt2",
            signature=signature,
            # Two images: an export takes a dimension of 1 for a constant.
            input_example=np.zeros((2, *architecture.shape), dtype=np.uint8),
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        )


def _git(root: Path, *arguments: str) -> str:
    """What git says, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
