"""The view that MLflow shows the experiment in names metrics that runs have, and fits into a tag."""

from __future__ import annotations

import json

from study.tracking import notes, view
from study.tracking.metrics import estimate_metrics, training_metrics

LONGEST = 5000  # characters of an experiment's tag in MLflow


def test_the_view_fits_into_a_tag_of_the_experiment() -> None:
    assert notes.EXPERIMENT[view.TAG] == view.shared_view()
    assert all(len(value) <= LONGEST for value in notes.EXPERIMENT.values())


def test_the_view_names_metrics_that_trainings_have() -> None:
    final = {"accuracy_random_exposed": 1.0, "accuracy_random_flipped": 0.0}
    means = {name: {"probability": 0.5} for name in ("real", "random")}
    estimated = estimate_metrics({"memorization": means, "mislabel_auroc": {"low_support": 0.9}})
    known = {*training_metrics(final), *estimated, "train_loss", "heldout_accuracy"}
    state = json.loads(view.shared_view())
    assert {column.removeprefix("metrics.").strip("`") for column in state["selectedColumns"]} <= known
    charts = state["compareRunCharts"]
    assert {chart["metricKey"] for chart in charts if chart["type"] != "PARALLEL"} <= known
    assert {name for chart in charts for name in chart.get("selectedMetrics", [])} <= known
    assert {chart["metricSectionId"] for chart in charts} == {of["uuid"] for of in state["compareRunSections"]}
    assert len({chart["uuid"] for chart in charts}) == len(charts)
