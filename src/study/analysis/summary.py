"""`summary.json`: the numbers that describe the runs; those of the claims are in `stages.findings`."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.analysis.groups import PLACEBO, RANDOM, REAL, label_kind
from study.analysis.inputs import MEASURES, NETWORKS, Inputs, first_run
from study.analysis.intervals import entry, interval, mean_of, rounded
from study.context.params import FiguresParams
from study.context.runs import CONTROL, Run
from study.figures.scores import DETECTION


def summarize(inputs: Inputs, settings: FiguresParams) -> dict[str, Any]:
    """All numbers of the report. An interval over seeds is ``{"mean", "half_width", "n"}``; six significant digits."""
    shown = first_run(inputs)
    found = {
        "seeds": inputs.seeds,
        "confidence": settings.confidence,
        "difficulty_quantile": settings.difficulty_quantile,
        "difficulty_from": "the other seeds" if len(inputs.seeds) > 1 else "the only seed itself",
        "shown": {"scenario": shown.scenario, "placement": shown.placement, "seed": shown.seed},
        "neighbours": _neighbours(inputs, settings),
        "scenarios": {name: _scenario(inputs, name, settings) for name in inputs.scenarios},
    }
    plain: dict[str, Any] = rounded(found)
    return plain


def _neighbours(inputs: Inputs, settings: FiguresParams) -> dict[str, Any]:
    """How often the strongest training examples of a held-out one share its label, and how often any does."""
    shown = first_run(inputs)
    runs = inputs.runs(shown.scenario, shown.placement)
    scenario = inputs.scenarios[shown.scenario]
    given = scenario.examples.set_index("id")["given"]
    trained = given.loc[scenario.of("train")["id"]].value_counts(normalize=True)
    each = min(settings.neighbours, int(inputs.top[runs[0]]["rank"].max()) + 1)
    shares: dict[str, list[float]] = {"helpful": [], "harmful": []}
    for run in runs:
        top = inputs.top[run][inputs.top[run]["rank"] < each]
        same = top["example"].map(given) == top["target"].map(given)
        for kind, values in shares.items():
            values.append(float(same[top["kind"] == kind].mean()))
    chance = given.loc[inputs.targets[runs[0]]["id"]].map(trained).fillna(0.0).mean()
    return {
        "each": each,
        "targets": len(inputs.targets[runs[0]]),
        **{f"{kind}_same_label": entry(interval(values, settings.confidence)) for kind, values in shares.items()},
        "chance": {"mean": float(chance), "half_width": None, "n": len(runs)},
    }


def _scenario(inputs: Inputs, name: str, settings: FiguresParams) -> dict[str, Any]:
    scenario = inputs.scenarios[name]
    trained = scenario.of("train")
    control = [inputs.train_metrics[Run(name, CONTROL, seed)]["heldout_accuracy"] for seed in inputs.seeds]
    return {
        "dataset": scenario.dataset,
        "train": len(trained),
        "placebo": len(scenario.of("placebo")),
        "heldout": len(scenario.of("heldout")),
        "random": int(trained["is_random"].sum()),
        "wrong": int((trained["given"] != trained["original"]).sum()),
        "control": {"heldout_accuracy": entry(interval(control, settings.confidence))},
        "placements": {placement: _placement(inputs, name, placement, settings) for placement in inputs.placements},
    }


def _placement(inputs: Inputs, scenario: str, placement: str, settings: FiguresParams) -> dict[str, Any]:
    runs = inputs.runs(scenario, placement)
    confidence = settings.confidence
    train = [inputs.train_metrics[run] for run in runs]
    control = [inputs.train_metrics[Run(scenario, CONTROL, run.seed)] for run in runs]
    own = [metrics["heldout_accuracy"] for metrics in train]
    cost = [metrics["heldout_accuracy"] - of["heldout_accuracy"] for metrics, of in zip(train, control, strict=True)]
    found: dict[str, Any] = {
        "heldout_accuracy": entry(interval(own, confidence)),
        "difference_to_control": entry(interval(cost, confidence)),
        "accuracy": {},
    }
    for kind in (REAL, RANDOM):
        keys = {of: f"accuracy_{kind}_{of}" for of in NETWORKS}
        if all(key in metrics for key in keys.values() for metrics in train):
            found["accuracy"][kind] = {
                of: entry(interval((metrics[key] for metrics in train), confidence)) for of, key in keys.items()
            }
    estimates = [inputs.estimate_metrics[run] for run in runs]
    for measure in DETECTION:
        scores = [metrics[measure] for metrics in estimates if metrics.get(measure)]
        if scores:
            found[measure] = {
                score: entry(interval([metrics[score] for metrics in scores if score in metrics], confidence))
                for score in scores[0]
            }
    found["influence_targets"] = len(inputs.targets[runs[0]])
    found["memorization"] = _memorization(inputs, runs, confidence)
    return found


def _memorization(inputs: Inputs, runs: list[Run], confidence: float) -> dict[str, Any]:
    """Mean memorization by kind of label, its spread, and the share above the placebo's 95 % quantile."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        kind = label_kind(inputs.scenarios[run.scenario].examples)
        frame = inputs.memorization[run]
        group_of = frame["id"].map(kind)
        groups = {group: frame[group_of == group] for group in (REAL, RANDOM, PLACEBO) if (group_of == group).any()}
        for measure in MEASURES:
            null = groups[PLACEBO][measure].quantile(0.95) if PLACEBO in groups else float("nan")
            for group, part in groups.items():
                values = part[measure].astype(float)
                rows.append(
                    {
                        "measure": measure,
                        "group": group,
                        "mean": values.mean(),
                        "spread": values.std(),
                        "above_placebo": (values > null).mean() if PLACEBO in groups else float("nan"),
                    }
                )
    table = pd.DataFrame(rows)
    found: dict[str, Any] = {}
    for measure in MEASURES:
        found[measure] = {}
        for group in (REAL, RANDOM, PLACEBO):
            part = table[(table["measure"] == measure) & (table["group"] == group)]
            if len(part):
                columns = ("mean", "spread", "above_placebo")
                found[measure][group] = {c: mean_of(part[c], confidence) for c in columns}
    return found
