"""A trained network as an MLflow model that loads anywhere: an exported graph, without a class of this repository."""

from __future__ import annotations

from pathlib import Path

from study.context.runs import Run
from study.tracking.store import Store

MODEL = "turnover.model"


def log_model(store: Store, run_id: str, root: Path, run: Run) -> None:
    """The full network, for `mlflow.pytorch.load_model` and `mlflow.pyfunc`: takes any number of images as stored.

    Turn-over dropout is taken out, so that plain torch operations are left, which torch.export writes down; whoever
    loads it needs torch and MLflow only, and unpickles nothing. The first export of a process costs seconds of imports.
    """
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from study.networks.masked import load_network
    from turnover.masking.insertion import remove

    network, architecture = load_network(root / run.folder)
    # Without names, so that `mlflow.pyfunc` takes the array itself and no dictionary of one.
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, *architecture.shape))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, len(architecture.classes)))]),
    )
    with store.active(run_id):
        mlflow.pytorch.log_model(
            remove(network).eval(),
            name=run.name,
            serialization_format="pt2",
            signature=signature,
            # Two images: an export takes a dimension of 1 for a constant.
            input_example=np.zeros((2, *architecture.shape), dtype=np.uint8),
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        )
    store.tag(run_id, model=run.name)
