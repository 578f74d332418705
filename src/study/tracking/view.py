"""How MLflow shows the experiment: the columns and charts of a shared view, which its button "Views" names.

Without it, MLflow's table has no metric and its charts are one for every metric of the report.
"""

from __future__ import annotations

import json
from typing import Any

KEY = "turnover"
TAG = f"mlflow.sharedViewState.{KEY}"
_CURVES = ("heldout_accuracy", "train_loss")
_NUMBERS = (
    "random_label_accuracy_exposed",
    "random_label_accuracy_flipped",
    "memorization_random",
    "memorization_real",
    "wrong_label_auroc_support",
)
_SECTIONS = {"training": "Training", "memorization": "Memorization"}


def shared_view() -> str:
    """The value of the experiment's tag `TAG`, as MLflow 3.17 writes it for a view that somebody shares."""
    return json.dumps(
        {
            "selectedColumns": [f"metrics.`{name}`" for name in (_CURVES[0], *_NUMBERS)],
            "compareRunCharts": [
                *(_chart("LINE", "training", name) | _OF_LINES for name in _CURVES),
                *(_chart("BAR", "memorization", name) for name in _NUMBERS),
                _chart("PARALLEL", "memorization", "all")
                | {
                    "selectedParams": ["scenario", "placement"],
                    "selectedMetrics": ["memorization_real", "heldout_accuracy"],  # a run without one is left out
                    "showAllRuns": True,
                },
            ],
            "isAccordionReordered": True,  # else by their names
            "compareRunSections": [
                {"uuid": key, "name": name, "display": True, "isReordered": False, "deleted": False}
                for key, name in _SECTIONS.items()
            ],
        },
        separators=(",", ":"),
    )


_OF_LINES: dict[str, Any] = {
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "lineSmoothness": 0,
    "range": {},
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "selectedXAxisMetricKey": "",
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def _chart(kind: str, section: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": f"{kind.lower()}-{metric}",
        "type": kind,
        "metricSectionId": section,
        "metricKey": metric,
        "displayName": "",
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": False,
    }
