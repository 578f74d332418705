"""The tables behind the figures and the summary, over the seeds or one row a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from study.analysis.groups import GROUPS, HELDOUT, KINDS, PLACEBO, RANDOM, REAL, WRONG, assign_groups, deciles
from study.analysis.inputs import MEASURES, NETWORKS, Study, memorization_of
from study.analysis.intervals import over_seeds
from study.context.rules import CONTROL
from study.context.runs import Run
from study.data.scenarios.scenario import Scenario

DETECTION = {"mislabel_auroc": "AUROC", "mislabel_average_precision": "average precision"}
TOTALS = {"total": "all held-out", "total_same_class": "its own class"}
_BINS = 60
_COLUMNS = {"loss": "loss", "margin": "margin", "correct": "accuracy"}  # of the dynamics, and what they measure


def _group_of(study: Study, run: Run, quantile: float) -> pd.Series[str]:
    return assign_groups(study.scenarios[run.scenario].examples, study.difficulty(run), quantile)


def _ordered(table: pd.DataFrame, keys: list[str], **orders: Any) -> pd.DataFrame:
    """Sorted by `keys`, some of them in an order of their own."""
    table = table.assign(**{key: pd.Categorical(table[key], list(of), ordered=True) for key, of in orders.items()})
    return table.sort_values(keys, kind="stable")


def curve_table(study: Study, scenario: str, placement: str, quantile: float, confidence: float) -> pd.DataFrame:
    """Means of each group: ``group``, ``network``, ``measure`` (loss, margin, accuracy), ``epoch``, interval.

    The held-out examples are a group of the full network alone, and have no margin.
    """
    pieces = []
    for run in study.runs(scenario, placement):
        frame = study.dynamics[run]
        groups = frame["id"].map(_group_of(study, run, quantile)).rename("group")
        means = frame.groupby([groups, "epoch"])[[f"{of}_{net}" for of in _COLUMNS for net in NETWORKS]].mean()
        pieces += [
            means[f"{column}_{network}"].rename("value").reset_index().assign(network=network, measure=measure)
            for network in NETWORKS
            for column, measure in _COLUMNS.items()
        ]
        pieces += [
            study.curves[run][["epoch", f"heldout_{measure}"]]
            .set_axis(["epoch", "value"], axis=1)
            .assign(group=HELDOUT, network="full", measure=measure)
            for measure in ("loss", "accuracy")
        ]
    keys = ["group", "network", "measure", "epoch"]
    return over_seeds(_ordered(pd.concat(pieces), keys, group=(*GROUPS, HELDOUT)), keys, confidence)


def together_table(study: Study, scenario: str, placement: str, confidence: float) -> pd.DataFrame:
    """How real and wrongly labelled examples are learned: ``measure``, ``group``, ``epoch``, interval over the seeds.

    ``accuracy`` is that of the exposed networks; ``own effect`` the flipped minus the exposed loss of the wrongly
    labelled examples, minus that of the placebos.
    """
    examples = study.scenarios[scenario].examples
    trained = examples["split"] == "train"
    wrong = examples["is_random"] & examples["wrong"]
    members = {REAL: trained & ~examples["is_random"], WRONG: trained & wrong, PLACEBO: examples["split"] == "placebo"}
    ids = {name: examples.loc[of, "id"] for name, of in members.items()}
    pieces = []
    for run in study.runs(scenario, placement):
        frame = study.dynamics[run]
        found = frame[["id", "epoch"]].assign(
            right=frame["correct_exposed"].astype(float), own=memorization_of(frame)["loss"]
        )
        means = {
            name: found[found["id"].isin(of)].groupby("epoch")[["right", "own"]].mean() for name, of in ids.items()
        }
        own = means[WRONG]["own"] - (means[PLACEBO]["own"] if len(ids[PLACEBO]) else 0.0)
        for measure, group, values in (
            ("accuracy", REAL, means[REAL]["right"]),
            ("accuracy", WRONG, means[WRONG]["right"]),
            ("own effect", WRONG, own),
        ):
            pieces.append(values.rename("value").reset_index().assign(measure=measure, group=group))
    return over_seeds(pd.concat(pieces), ["measure", "group", "epoch"], confidence)


def memorization_table(study: Study, quantile: float, confidence: float) -> pd.DataFrame:
    """Mean memorization of each group at each epoch, in the three measures, over the seeds."""
    pieces = []
    for scenario, placement in study.settings:
        for run in study.runs(scenario, placement):
            frame = study.dynamics[run]
            groups = frame["id"].map(_group_of(study, run, quantile)).rename("group")
            means = memorization_of(frame).groupby([groups, frame["epoch"]]).mean()
            long = means.reset_index().melt(["group", "epoch"], var_name="measure")
            pieces.append(long.assign(scenario=scenario, placement=placement))
    keys = ["scenario", "placement", "measure", "group", "epoch"]
    orders = {"scenario": study.scenarios, "placement": study.placements, "measure": MEASURES, "group": GROUPS}
    return over_seeds(_ordered(pd.concat(pieces), keys, **orders), keys, confidence)


def distribution_table(study: Study, scenario: str) -> pd.DataFrame:
    """Histograms of every measure: ``placement``, ``measure``, ``group``, ``left``, ``right``, ``share``, ``count``.

    Counts are over examples and seeds together; the share is of the group. Values beyond the outermost bins of the
    loss (its .1 % and 99.9 % quantiles) are counted in them.
    """
    pieces = []
    for placement in study.placements:
        frame = pd.concat([study.memorization[run] for run in study.runs(scenario, placement)])
        kind = kinds_of(study.scenarios[scenario], frame)
        for measure in MEASURES:
            edges = _edges(measure, frame[measure].to_numpy(np.float64))
            for group in KINDS:
                values = frame.loc[kind == group, measure].to_numpy(np.float64)
                if len(values):
                    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
                    about = {"placement": placement, "measure": measure, "group": group}
                    bins = {"left": edges[:-1], "right": edges[1:], "share": counts / len(values), "count": counts}
                    pieces.append(pd.DataFrame({**about, **bins}))
    return pd.concat(pieces, ignore_index=True)


def kinds_of(scenario: Scenario, table: pd.DataFrame) -> np.ndarray:
    """The kind (real, random, placebo) of the example in each row of a table with a column ``id``."""
    kinds: np.ndarray = table["id"].map(scenario.examples.set_index("id")["kind"]).to_numpy()
    return kinds


def _edges(measure: str, values: np.ndarray) -> np.ndarray:
    if measure == "accuracy":
        return np.array([-1.5, -0.5, 0.5, 1.5])
    if measure == "probability":
        return np.linspace(-1.0, 1.0, _BINS + 1)
    low, high = np.quantile(values, [0.001, 0.999])
    return np.linspace(min(low, -0.1), max(high, 0.1), _BINS + 1)


def detection_table(study: Study) -> pd.DataFrame:
    """``scenario``, ``placement``, ``measure``, ``score``, ``seed``, ``value`` of every detection that was measured."""
    rows = [
        (scenario, placement, measure, score, run.seed, value)
        for scenario in study.scenarios
        for placement in study.placements
        for run in study.runs(scenario, placement)
        for measure in DETECTION
        for score, value in study.estimate_metrics[run].get(measure, {}).items()
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["scenario", "placement", "measure", "score", "seed", "value"])


def cost_table(study: Study) -> pd.DataFrame:
    """``scenario``, ``network`` (placement or the control), ``seed``, ``heldout_accuracy`` of the full networks."""
    networks = [*(placement for placement in study.seeds if placement == CONTROL), *study.placements]
    rows = [
        (scenario, network, run.seed, study.train_metrics[run]["heldout_accuracy"])
        for scenario in study.scenarios
        for network in networks
        for run in study.runs(scenario, network)
    ]
    return pd.DataFrame(rows, columns=["scenario", "network", "seed", "heldout_accuracy"])


def influence_table(study: Study, placement: str, confidence: float) -> pd.DataFrame:
    """Mean total influence by decile of memorization: ``scenario``, ``group``, ``measure``, ``decile``, interval.

    The deciles of a seed come from the other seeds. ``total_same_class`` counts held-out examples of the same class.
    The placebos, whose influence is 0 but for noise, are one group (decile 0).
    """
    rows: list[tuple[str, str, str, int, float]] = []
    for scenario, about in study.scenarios.items():
        for run in study.runs(scenario, placement):
            totals = study.totals[run].set_index("id")
            memorized = study.difficulty(run)
            kind = kinds_of(about, memorized.index.to_frame(name="id"))
            for measure in TOTALS:
                if len(study.placebo[run]):
                    rows.append((scenario, PLACEBO, measure, 0, float(study.placebo[run][measure].mean())))
                for group in (REAL, RANDOM):
                    of_kind = memorized[kind == group]
                    if len(of_kind) >= 10:
                        decile = deciles(of_kind)
                        means = totals.loc[decile.index, measure].astype(float).groupby(decile.to_numpy()).mean()
                        rows += [(scenario, group, measure, int(of), float(mean)) for of, mean in means.items()]
    keys = ["scenario", "group", "measure", "decile"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, confidence)


def gallery_table(study: Study, run: Run, count: int) -> pd.DataFrame:
    """The `count` most memorized training examples, of all and of those with real labels.

    By mean loss over the seeds: at the top the other two measures are 1 for everybody.
    """
    tables = [study.memorization[of] for of in study.runs(run.scenario, run.placement)]
    trained = pd.concat([table[table["split"] == "train"] for table in tables])
    mean = trained.groupby("id")["loss"].mean().astype(float)
    examples = _named(study.scenarios[run.scenario]).set_index("id")
    ordered = mean.sort_index().sort_values(ascending=False, kind="stable")
    is_random = examples.loc[ordered.index, "is_random"].to_numpy(bool)
    shown = {"all": ordered[: count * bool(is_random.any())], "real": ordered[~is_random][:count]}
    pieces = [
        examples.loc[top.index]
        .reset_index()
        .assign(kind=kind, rank=np.arange(1, len(top) + 1), memorization=top.to_numpy())
        for kind, top in shown.items()
    ]
    columns = ["kind", "rank", "id", "given", "original", "given_name", "original_name", "differs", "is_random"]
    found: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    return found.reindex(columns=[*columns, "memorization"])


def mistakes_table(study: Study, run: Run, mistakes: int, neighbours: int) -> pd.DataFrame:
    """Held-out mistakes of highest loss, each followed by its most helpful and most harmful training examples.

    One row an image: ``target``, ``kind`` (mistake, helpful, harmful), ``rank``, ``id``, ``influence`` (the loss
    for the mistake itself), labels and their names, ``predicted_name`` for the mistake.
    """
    targets, top, scenario = study.targets[run], study.top[run], study.scenarios[run.scenario]
    wrong = targets[targets["predicted"] != targets["given"]].sort_values(["loss", "id"], ascending=[False, True])
    rows: list[dict[str, Any]] = []
    for target in wrong.head(mistakes).itertuples():
        about = {"target": target.id, "kind": "mistake", "rank": 0, "id": target.id, "influence": target.loss}
        rows.append({**about, "predicted": target.predicted})
        for kind in ("helpful", "harmful"):
            chosen = top[(top["target"] == target.id) & (top["kind"] == kind)].sort_values("rank")
            rows += [
                {"target": target.id, "kind": kind, "rank": i, "id": near.example, "influence": near.influence}
                for i, near in enumerate(chosen.head(neighbours).itertuples(), start=1)
            ]
    columns = ["target", "kind", "rank", "id", "influence", "predicted"]
    table = pd.DataFrame(rows, columns=columns).merge(_named(scenario), on="id", how="left")
    return table.assign(predicted_name=table.pop("predicted").map(dict(enumerate(scenario.classes))))


def _named(scenario: Scenario) -> pd.DataFrame:
    """The examples with the names of their labels, and whether they differ."""
    names = dict(enumerate(scenario.classes))
    examples = scenario.examples[["id", "given", "original", "is_random"]]
    return examples.assign(
        given_name=examples["given"].map(names),
        original_name=examples["original"].map(names),
        differs=scenario.examples["wrong"],
    )
