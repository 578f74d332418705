"""`headline.json`: the few numbers that `dvc metrics diff` and `dvc exp show` compare, flat and under telling names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from study.analysis.files import Validation
from study.analysis.intervals import rounded

SCENARIO, PLACEMENT = "mixed", "head"  # the primary setting
# Name -> where `summary.json` holds it, below the primary setting.
_OF_SETTING = {
    **{f"random_label_accuracy_{of}": ("accuracy", "random", of) for of in ("exposed", "flipped", "full")},
    "wrong_label_auroc_support": ("mislabel_auroc", "low_support"),
    "wrong_label_auroc_flipped_loss": ("mislabel_auroc", "loss_flipped"),
    "wrong_label_auroc_full_loss": ("mislabel_auroc", "loss_full"),
    **{f"memorization_{of}": ("memorization", "probability", of, "mean") for of in ("random", "real", "placebo")},
    "heldout_accuracy": ("heldout_accuracy",),
    "heldout_accuracy_minus_control": ("difference_to_control",),
}
# Claims whose effect stands here in a plain unit too.
_PLAIN = {"P1": "epochs_easy_faster", "P3": "epochs_easy_faster_real", "P4": "accuracy_points_tell_more"}
_SCORES = {"lds": "lds", "memorization": "memorization_spearman"}
_BEST_FIRST = ("turn-over combined", "turn-over pooled", "turn-over sharpened", "turn-over raw")
_NETWORKS = {1: "one_network", 4: "four_networks"}


def headline(
    summary: Mapping[str, Any], findings: Mapping[str, Any], validations: Iterable[Validation]
) -> dict[str, float]:
    """What is there of: the primary setting, the claims' effects and verdicts, the best estimates against retraining.

    A score of a validation set is that of the combined estimate, or where it has none of the sharpened one, or of the
    raw one: always the same method, so that a difference between two versions is one of results.
    """
    found: dict[str, float] = {}
    setting = summary["scenarios"].get(SCENARIO, {"placements": {}})["placements"].get(PLACEMENT, {})
    for name, path in _OF_SETTING.items():
        value: Any = setting
        for key in path:
            value = value.get(key) if value else None
        if value:
            found[name] = value["mean"]
    claims: Sequence[Mapping[str, Any]] = findings["claims"]
    found |= {f"effect_{of['name']}": of["mean"] for of in claims}
    found |= {_PLAIN[of["key"]]: of["plain"]["mean"] for of in claims if of["key"] in _PLAIN}
    for verdict in ("supported", "contradicted"):
        found[f"claims_{verdict}"] = sum(claim["verdict"] == verdict for claim in claims)
    for validation in validations:
        for networks, words in _NETWORKS.items():
            for column, score in _SCORES.items():
                best = _best(validation.table, networks, column)
                if best is not None:
                    found[f"{validation.name}_{score}_{words}"] = best
    plain: dict[str, float] = rounded(found)
    return plain


def _best(table: pd.DataFrame, networks: int, column: str) -> float | None:
    scored = table[(table["networks"] == networks) & table[column].notna()].set_index("method")[column]
    return next((float(scored[method]) for method in _BEST_FIRST if method in scored), None)
