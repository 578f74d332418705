"""`summary.json`: the numbers that describe the runs; those of the claims are in `stages.findings`."""

from __future__ import annotations

from typing import Any

from study.analysis.groups import KINDS, PLACEBO, RANDOM, REAL
from study.analysis.inputs import MEASURES, NETWORKS, Study
from study.analysis.intervals import difficulty_from, entry, mean_of, rounded
from study.analysis.tables import DETECTION, kinds_of
from study.context.rules import CONTROL
from study.context.runs import Run


def summarize(study: Study, *, confidence: float, difficulty_quantile: float, neighbours: int) -> dict[str, Any]:
    """All numbers of the report. An interval over seeds is ``{"mean", "half_width", "n"}``; six significant digits.

    What the control says is left out where there is none.
    """
    shown = study.shown
    found = {
        "seeds": study.seeds,
        "confidence": confidence,
        "difficulty_quantile": difficulty_quantile,
        "difficulty_from": difficulty_from(study.masked_seeds),
        "shown": {"scenario": shown.scenario, "placement": shown.placement, "seed": shown.seed},
        "neighbours": _neighbours(study, neighbours, confidence),
        "scenarios": {name: _scenario(study, name, confidence) for name in study.scenarios},
    }
    plain: dict[str, Any] = rounded(found)
    return plain


def _neighbours(study: Study, at_most: int, confidence: float) -> dict[str, Any]:
    """How often the strongest training examples of a held-out one share its label, and how often any does."""
    runs = study.runs(study.shown.scenario, study.shown.placement)
    scenario = study.scenarios[study.shown.scenario]
    given = scenario.examples.set_index("id")["given"]
    trained = given.loc[scenario.of("train")["id"]].value_counts(normalize=True)
    each = min(at_most, int(study.top[runs[0]]["rank"].max()) + 1)
    shares: dict[str, list[float]] = {"helpful": [], "harmful": []}
    for run in runs:
        top = study.top[run][study.top[run]["rank"] < each]
        same = top["example"].map(given) == top["target"].map(given)
        for kind, values in shares.items():
            values.append(float(same[top["kind"] == kind].mean()))
    chance = given.loc[study.targets[runs[0]]["id"]].map(trained).fillna(0.0).mean()
    return {
        "each": each,
        "targets": len(study.targets[runs[0]]),
        **{f"{kind}_same_label": entry(values, confidence) for kind, values in shares.items()},
        "chance": {"mean": float(chance), "half_width": None, "n": len(runs)},
    }


def _scenario(study: Study, name: str, confidence: float) -> dict[str, Any]:
    scenario = study.scenarios[name]
    trained = scenario.of("train")
    control = [study.train_metrics[run]["heldout_accuracy"] for run in study.runs(name, CONTROL)]
    found: dict[str, Any] = {
        "dataset": scenario.dataset,
        "train": len(trained),
        "placebo": len(scenario.of("placebo")),
        "heldout": len(scenario.of("heldout")),
        "random": int(trained["is_random"].sum()),
        "wrong": int(trained["wrong"].sum()),
    }
    if control:
        found["control"] = {"heldout_accuracy": entry(control, confidence)}
    found["placements"] = {of: _placement(study, name, of, confidence) for of in study.placements}
    return found


def _placement(study: Study, scenario: str, placement: str, confidence: float) -> dict[str, Any]:
    runs = study.runs(scenario, placement)
    train = [study.train_metrics[run] for run in runs]
    found: dict[str, Any] = {"heldout_accuracy": entry([metrics["heldout_accuracy"] for metrics in train], confidence)}
    cost = [
        study.train_metrics[run]["heldout_accuracy"] - study.train_metrics[control]["heldout_accuracy"]
        for run in runs
        for control in study.runs(scenario, CONTROL)
        if run.seed == control.seed
    ]
    if cost:
        found["difference_to_control"] = entry(cost, confidence)
    found["accuracy"] = {}
    for kind in (REAL, RANDOM):
        keys = {of: f"accuracy_{kind}_{of}" for of in NETWORKS}
        if all(key in metrics for key in keys.values() for metrics in train):
            found["accuracy"][kind] = {
                of: entry((metrics[key] for metrics in train), confidence) for of, key in keys.items()
            }
    estimates = [study.estimate_metrics[run] for run in runs]
    for measure in DETECTION:
        scores = [metrics[measure] for metrics in estimates if metrics.get(measure)]
        if scores:
            found[measure] = {key: entry((of[key] for of in scores if key in of), confidence) for key in scores[0]}
    found["influence_targets"] = len(study.targets[runs[0]])
    found["memorization"] = _memorization(study, runs, confidence)
    return found


def _memorization(study: Study, runs: list[Run], confidence: float) -> dict[str, Any]:
    """Mean memorization by kind of label, its spread, and the share above the placebo's 95 % quantile."""
    found: dict[str, Any] = {measure: {} for measure in MEASURES}
    frames = [study.memorization[run] for run in runs]
    kinds = [kinds_of(study.scenarios[run.scenario], frame) for run, frame in zip(runs, frames, strict=True)]
    for measure in MEASURES:
        for kind in KINDS:
            values = [frame[measure].astype(float)[of == kind] for frame, of in zip(frames, kinds, strict=True)]
            null = [frame[measure].astype(float)[of == PLACEBO] for frame, of in zip(frames, kinds, strict=True)]
            if not len(values[0]):
                continue
            above = [
                float((one > none.quantile(0.95)).mean()) if len(none) else float("nan")
                for one, none in zip(values, null, strict=True)
            ]
            found[measure][kind] = {
                "mean": mean_of((one.mean() for one in values), confidence),
                "spread": mean_of((one.std() for one in values), confidence),
                "above_placebo": mean_of(above, confidence),
            }
    return found
