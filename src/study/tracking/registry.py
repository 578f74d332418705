"""The model registry: a registered model for every scenario and placement, a version a training, an alias a seed."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, suppress

from study.context.runs import Run
from study.context.stage import Stage
from study.tracking.notes import model_name, model_note
from study.tracking.store import Store


def alias_of(run: Run) -> str:
    """The alias of the newest version of a seed: `models:/turnover-mixed-head@seed-10` is its model."""
    return f"seed-{run.seed}"


def register(store: Store, run_id: str, stage: Stage, run: Run) -> None:
    """Register the model that the run has logged under its name, and point the alias of its seed there."""
    import mlflow
    from mlflow import MlflowException

    name = model_name(stage)
    with suppress(MlflowException):  # there it is, or another process makes it: else the version below fails
        store.client.create_registered_model(name, description=model_note(stage))
    with store.active(run_id), redirect_stderr(io.StringIO()):  # where MLflow says that it did as asked
        version = mlflow.register_model(f"runs:/{run_id}/{run.name}", name, tags={"seed": str(run.seed)}).version
    store.client.set_registered_model_alias(name, alias_of(run), version)
