"""The few numbers that are metrics of a run, under the names that `headline.json` uses; the others are in its tables.

MLflow gives every metric a column and a chart: hundreds of them hide the ten that runs are compared by. A run above
others has the means of theirs under the same names, so that one column serves both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Name -> where a training's `metrics.json` has it; the curves bring its four others.
_TRAINING = {
    "random_label_accuracy_exposed": ("accuracy_random_exposed",),
    "random_label_accuracy_flipped": ("accuracy_random_flipped",),
}
# The same for the `metrics.json` of its estimates.
_ESTIMATES = {
    "memorization_random": ("memorization", "random", "probability"),
    "memorization_real": ("memorization", "real", "probability"),
    "wrong_label_auroc_support": ("mislabel_auroc", "low_support"),
}
# Of a validation set: column of its table -> name of the metric.
_JUDGED = {"memorization": "memorization_spearman", "lds": "lds", "auroc": "wrong_label_auroc"}
_NETWORKS = {1: "one_network", 4: "four_networks"}
_BEST = {"memorization": "turn-over sharpened", "lds": "turn-over combined", "auroc": "turn-over sharpened"}


def training_metrics(final: Mapping[str, Any]) -> dict[str, float]:
    """Of the final metrics of a training, those that its curve does not have."""
    return _picked(final, _TRAINING)


def estimate_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """Of the estimates from one training."""
    return _picked(found, _ESTIMATES)


def validation_metrics(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Of a validation set: what our best estimates reach from one network and from four.

    Args:
        rows: of its `table.csv`, as texts.
    """
    cells = {(row["method"], row["networks"]): row for row in rows}
    found = {}
    for networks, words in _NETWORKS.items():
        for column, name in _JUDGED.items():
            value = cells.get((_BEST[column], str(networks)), {}).get(column)
            if value:
                found[f"{name}_{words}"] = float(value)
    return found


def claim_metrics(claims: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Of the findings: the effect of every claim, and how many claims have which verdict."""
    claims = list(claims)
    found = numbers({f"effect_{claim['name']}": claim["mean"] for claim in claims})
    for verdict in ("supported", "contradicted"):
        found[f"claims_{verdict}"] = float(sum(claim["verdict"] == verdict for claim in claims))
    return found


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each number that all of the rows have."""
    common = [name for name in (rows[0] if rows else {}) if all(name in row for row in rows)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in common}


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers in a metrics file, under names that MLflow takes."""
    return {
        re.sub(r"[^\w./ :-]", "_", key): float(value)
        for key, value in flat(metrics, separator="/").items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def flat(values: Mapping[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Nested mappings as one, their keys joined."""
    joined: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            joined.update(flat(value, f"{prefix}{key}{separator}", separator))
        else:
            joined[f"{prefix}{key}"] = value
    return joined


def _picked(values: Mapping[str, Any], wanted: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, path in wanted.items():
        value: Any = values
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and math.isfinite(value):
            found[name] = float(value)
    return found
