"""Claim 1: are difficult examples optimized from the start, and the easy ones faster? From the exposed losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.analysis.groups import GROUPS, RANDOM, RANDOM_DIFFICULT, RANDOM_EASY, REAL_DIFFICULT, REAL_EASY
from study.analysis.intervals import over_seeds
from study.context.runs import Run
from study.findings.groups import DEFINITIONS, difficulties, finally_learned, first_learned, group_of
from study.findings.inputs import Study
from study.findings.testing import BOOTSTRAP, Comparison, draw_effects, tails

EARLY = 3  # epochs over which the speed of learning is taken


@dataclass(frozen=True)
class Setting:
    """One scenario and placement as arrays [seeds, training examples], examples in ascending order of id."""

    scenario: str
    placement: str
    ids: np.ndarray  # [examples]
    first: np.ndarray  # decrease of the exposed loss an epoch until the first recorded one, nats
    speed: np.ndarray  # over the first EARLY epochs, nats an epoch
    learned: dict[str, np.ndarray]  # "first" and "finally": the epoch
    groups: dict[str, np.ndarray]  # definition -> group of each example, "" for those in between
    loss: np.ndarray  # exposed, [seeds, recorded epochs, examples]
    memorized: np.ndarray  # flipped minus exposed loss at the first recorded epoch after 0, nats
    epochs: np.ndarray


def read_setting(study: Study, scenario: str, placement: str, quantile: float) -> Setting:
    """The arrays of one scenario and placement, groups by both definitions of difficulty from the other seeds."""
    ids = np.sort(study.scenarios[scenario].of("train")["id"].to_numpy())
    runs = study.runs(scenario, placement)
    by = difficulties(study, scenario, placement)
    groups = {
        definition: np.stack(
            [
                group_of(study, run, by[definition, run.seed], quantile).reindex(ids).fillna("").to_numpy(str)
                for run in runs
            ]
        )
        for definition in DEFINITIONS
    }
    losses = [_losses(study, run, ids, "exposed") for run in runs]
    flipped = [_losses(study, run, ids, "flipped") for run in runs]
    epochs = losses[0].columns.to_numpy(np.float64)
    loss = np.stack([frame.to_numpy(np.float64).T for frame in losses])
    decrease = (loss[:, :1] - loss[:, 1:]) / (epochs[1:] - epochs[0])[None, :, None]
    early = max(0, int((epochs[1:] <= EARLY).sum()) - 1)
    frames = [study.dynamics[run] for run in runs]
    return Setting(
        scenario,
        placement,
        ids,
        first=decrease[:, 0],
        speed=decrease[:, early],
        learned={
            "first": np.stack([first_learned(frame).loc[ids].to_numpy() for frame in frames]),
            "finally": np.stack([finally_learned(frame).loc[ids].to_numpy() for frame in frames]),
        },
        groups=groups,
        loss=loss,
        memorized=np.stack([frame.to_numpy(np.float64)[:, 1] for frame in flipped]) - loss[:, 1],
        epochs=epochs,
    )


def compare_learning(setting: Setting) -> Iterator[Comparison]:
    """The comparisons of one scenario and placement, by both definitions of difficulty."""
    for definition, group in setting.groups.items():
        for easy, difficult, kind in (
            (REAL_EASY, REAL_DIFFICULT, "real"),
            (RANDOM_EASY, RANDOM_DIFFICULT, "random"),
        ):
            if not (group == easy).any():
                continue
            yield from _from_the_start(setting, kind, definition, group, difficult)
            yield _comparison(
                setting,
                f"faster_{kind}",
                definition,
                f"decrease of the exposed loss an epoch over the first {EARLY} epochs, {easy} minus {difficult}",
                setting.speed,
                group == easy,
                group == difficult,
            )
    group = setting.groups[DEFINITIONS[0]]
    if (group == RANDOM).any():  # one group, whatever the definition of difficulty among the real ones
        yield from _from_the_start(setting, "random", "", group, RANDOM)


def _from_the_start(setting: Setting, kind: str, definition: str, group: np.ndarray, name: str) -> Iterator[Comparison]:
    """Does the loss of a group fall in the first epoch, and does it fall by its own sub-network's doing?"""
    of = f"decrease of the exposed loss of the {name} examples in the first epoch"
    yield _comparison(setting, f"together_{kind}", definition, of, setting.first, group == name, None)
    of = f"memorization (flipped minus exposed loss) of the {name} examples after the first epoch"
    yield _comparison(setting, f"memorized_{kind}", definition, of, setting.memorized, group == name, None, "nats")


def _comparison(
    setting: Setting,
    claim: str,
    definition: str,
    of: str,
    values: np.ndarray,
    plus: np.ndarray,
    minus: np.ndarray | None,
    unit: str = "nats an epoch",
) -> Comparison:
    effects = [row[chosen].mean() for row, chosen in zip(values, plus, strict=True)]
    if minus is not None:
        effects = [e - row[other].mean() for e, row, other in zip(effects, values, minus, strict=True)]
    p, p_below = tails(draw_effects(values, plus, minus))
    members = int(plus[0].sum() + (minus[0].sum() if minus is not None else 0))
    return Comparison(
        claim, setting.scenario, setting.placement, definition, of, unit,
        tuple(float(e) for e in effects), members, BOOTSTRAP, p, p_below,
    )  # fmt: skip


def speed_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Decrease of the exposed loss an epoch, from each recorded epoch to the next, by group, over the seeds."""
    rows = []
    for setting in settings:
        steps = np.diff(setting.epochs)
        decrease = -np.diff(setting.loss, axis=1) / steps[None, :, None]
        for definition, group in setting.groups.items():
            for name in _names(group):
                for row, seed in enumerate(study.seeds):
                    means = decrease[row][:, group[row] == name].mean(1)
                    rows += [
                        (setting.scenario, setting.placement, definition, name, int(epoch), seed, float(value))
                        for epoch, value in zip(setting.epochs[1:], means, strict=True)
                    ]
    keys = ["scenario", "placement", "definition", "group", "epoch"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "seed", "value"]), keys, confidence)


def learning_time_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Share of each group that is first, and finally, learned by each recorded epoch, over the seeds."""
    rows = []
    for setting in settings:
        for definition, group in setting.groups.items():
            for name in _names(group):
                for event, learned in setting.learned.items():
                    for row, seed in enumerate(study.seeds):
                        of_group = learned[row][group[row] == name]
                        rows += [
                            (setting.scenario, setting.placement, definition, name, event, int(epoch), seed,
                             float((of_group <= epoch).mean()))
                            for epoch in setting.epochs[1:]
                        ]  # fmt: skip
    keys = ["scenario", "placement", "definition", "group", "event", "epoch"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "seed", "value"]), keys, confidence)


def group_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """What happened to each group in numbers: its size, loss decrease, median epochs to learn, influence."""
    rows = []
    for setting in settings:
        for definition, group in setting.groups.items():
            for name in _names(group):
                for row, seed in enumerate(study.seeds):
                    chosen = group[row] == name
                    run = Run(setting.scenario, setting.placement, seed)
                    totals = study.totals[run].set_index("id")["total"].loc[setting.ids].to_numpy(np.float64)
                    values = {
                        "first_epoch": setting.first[row][chosen].mean(),
                        "speed": setting.speed[row][chosen].mean(),
                        "first_learned": np.median(setting.learned["first"][row][chosen]),
                        "finally_learned": np.median(setting.learned["finally"][row][chosen]),
                        "influence": totals[chosen].mean(),
                    }
                    rows += [
                        (setting.scenario, setting.placement, definition, name, int(chosen.sum()), key, float(value))
                        for key, value in values.items()
                    ]
    keys = ["scenario", "placement", "definition", "group", "examples", "number"]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, confidence)


def _names(group: np.ndarray) -> list[str]:
    return [name for name in GROUPS if (group == name).any()]


def _losses(study: Study, run: Run, ids: np.ndarray, network: str) -> pd.DataFrame:
    """One row an example, one column a recorded epoch."""
    return study.dynamics[run].pivot(index="id", columns="epoch", values=f"loss_{network}").loc[ids]
