"""Claim 1: are difficult examples optimized from the start, and the easy ones faster? From the exposed losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from study.analysis.groups import (
    GROUPS,
    RANDOM,
    RANDOM_DIFFICULT,
    RANDOM_EASY,
    REAL,
    REAL_DIFFICULT,
    REAL_EASY,
    assign_groups,
    of_other_seeds,
)
from study.analysis.inputs import Study
from study.analysis.intervals import over_seeds
from study.context.runs import Run
from study.findings.testing import Comparison, compare_groups

MEMORIZATION, FIRST_LEARNED = "memorization", "first-learned epoch"
DEFINITIONS = (MEMORIZATION, FIRST_LEARNED)
KINDS_OF_DIFFICULTY = ((REAL, REAL_EASY, REAL_DIFFICULT), (RANDOM, RANDOM_EASY, RANDOM_DIFFICULT))
EARLY = 3  # epochs over which the speed of learning is taken


@dataclass(frozen=True)
class Setting:
    """One scenario and placement as arrays [seeds, training examples], examples in ascending order of id."""

    scenario: str
    placement: str
    runs: list[Run]  # [seeds]
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
    examples = study.scenarios[scenario].examples
    ids = np.sort(study.scenarios[scenario].of("train")["id"].to_numpy())
    runs = study.runs(scenario, placement)
    frames = [study.dynamics[run] for run in runs]
    first = {run.seed: first_learned(frame) for run, frame in zip(runs, frames, strict=True)}

    def groups(definition: str, run: Run) -> np.ndarray:
        difficulty = study.difficulty(run) if definition == MEMORIZATION else of_other_seeds(first, run.seed).loc[ids]
        named = assign_groups(examples, difficulty, quantile)
        found: np.ndarray = named.reindex(ids).fillna("").to_numpy(str)
        return found

    epochs = np.sort(frames[0]["epoch"].unique()).astype(np.float64)
    loss, flipped = (np.stack([_losses(frame, ids, network) for frame in frames]) for network in ("exposed", "flipped"))
    decrease = (loss[:, :1] - loss[:, 1:]) / (epochs[1:] - epochs[0])[None, :, None]
    early = max(0, int((epochs[1:] <= EARLY).sum()) - 1)
    return Setting(
        scenario,
        placement,
        runs,
        ids,
        first=decrease[:, 0],
        speed=decrease[:, early],
        learned={
            "first": np.stack([first[run.seed].loc[ids].to_numpy() for run in runs]),
            "finally": np.stack([finally_learned(frame).loc[ids].to_numpy() for frame in frames]),
        },
        groups={definition: np.stack([groups(definition, run) for run in runs]) for definition in DEFINITIONS},
        loss=loss,
        memorized=flipped[:, 1] - loss[:, 1],
        epochs=epochs,
    )


def first_learned(frame: pd.DataFrame) -> pd.Series[float]:
    """The first recorded epoch at which each example is right in its exposed network, by id.

    Epoch 0, the untrained network, does not count. Never learned: one more than the last epoch.
    """
    right = _right(frame)
    return _first(right, right.to_numpy())


def finally_learned(frame: pd.DataFrame) -> pd.Series[float]:
    """The first recorded epoch from which on each example stays right until the end; never: one more than the last."""
    right = _right(frame)
    # Right from here to the end: the running minimum from behind.
    return _first(right, np.minimum.accumulate(right.to_numpy()[:, ::-1], axis=1)[:, ::-1])


def _right(frame: pd.DataFrame) -> pd.DataFrame:
    """Right in the exposed network or not: one row an example, one column a recorded epoch from 1 on."""
    trained = frame[frame["epoch"] > 0]
    return trained.pivot(index="id", columns="epoch", values="correct_exposed").astype(bool)


def _first(right: pd.DataFrame, happened: np.ndarray) -> pd.Series[float]:
    epochs = np.array(right.columns, np.float64)
    return pd.Series(np.where(happened, epochs, epochs[-1] + 1).min(1), index=right.index)


def _losses(dynamics: pd.DataFrame, ids: np.ndarray, network: str) -> np.ndarray:
    """[recorded epochs, examples]."""
    table = dynamics.pivot(index="epoch", columns="id", values=f"loss_{network}")
    return table[ids].to_numpy(np.float64)


def totals_of(study: Study, run: Run, ids: np.ndarray, column: str) -> np.ndarray:
    """A column of the total influences, in the order of `ids`."""
    table: pd.DataFrame = study.totals[run].set_index("id")
    return table[column].loc[ids].to_numpy(np.float64)


def compare_learning(setting: Setting) -> Iterator[Comparison]:
    """The comparisons of one scenario and placement, by both definitions of difficulty."""
    at = (setting.scenario, setting.placement)
    for definition, group in setting.groups.items():
        for kind, easy, difficult in KINDS_OF_DIFFICULTY:
            if (group == easy).any():
                yield from _from_the_start(setting, kind, definition, group == difficult, difficult)
                text = f"decrease of the exposed loss an epoch over the first {EARLY} epochs, {easy} minus {difficult}"
                about = (f"faster_{kind}", *at, definition, text, "nats an epoch")
                yield compare_groups(about, setting.speed, group == easy, group == difficult)
    random = setting.groups[MEMORIZATION] == RANDOM
    if random.any():  # one group, whatever the definition of difficulty among the real ones
        yield from _from_the_start(setting, "random", "", random, RANDOM)


def _from_the_start(
    setting: Setting, kind: str, definition: str, members: np.ndarray, name: str
) -> Iterator[Comparison]:
    """Does the loss of a group fall in the first epoch, and does it fall by its own sub-network's doing?"""
    for claim, words, after, unit, values in (
        ("together", "decrease of the exposed loss", "in the first epoch", "nats an epoch", setting.first),
        ("memorized", "memorization (flipped minus exposed loss)", "after the first epoch", "nats", setting.memorized),
    ):
        about = (f"{claim}_{kind}", setting.scenario, setting.placement, definition)
        yield compare_groups((*about, f"{words} of the {name} examples {after}", unit), values, members)


def speed_table(settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Decrease of the exposed loss an epoch, from each recorded epoch to the next, by group, over the seeds."""
    rows = []
    for setting, key, row, members in _groups(settings):
        decrease = -np.diff(setting.loss[row], axis=0) / np.diff(setting.epochs)[:, None]
        means = decrease[:, members].mean(1)
        rows += [(*key, int(epoch), float(value)) for epoch, value in zip(setting.epochs[1:], means, strict=True)]
    return _over_seeds(rows, ["epoch"], confidence)


def learning_time_table(settings: list[Setting], confidence: float) -> pd.DataFrame:
    """Share of each group that is first, and finally, learned by each recorded epoch, over the seeds."""
    rows = [
        (*key, event, int(epoch), float((learned[row][members] <= epoch).mean()))
        for setting, key, row, members in _groups(settings)
        for event, learned in setting.learned.items()
        for epoch in setting.epochs[1:]
    ]
    return _over_seeds(rows, ["event", "epoch"], confidence)


def group_table(study: Study, settings: list[Setting], confidence: float) -> pd.DataFrame:
    """What happened to each group in numbers: its size, loss decrease, median epochs to learn, influence."""
    rows = []
    for setting, key, row, members in _groups(settings):
        values = {
            "first_epoch": setting.first[row][members].mean(),
            "speed": setting.speed[row][members].mean(),
            "first_learned": np.median(setting.learned["first"][row][members]),
            "finally_learned": np.median(setting.learned["finally"][row][members]),
            "influence": totals_of(study, setting.runs[row], setting.ids, "total")[members].mean(),
        }
        rows += [(*key, int(members.sum()), name, float(value)) for name, value in values.items()]
    return _over_seeds(rows, ["examples", "number"], confidence)


def _groups(settings: list[Setting]) -> Iterator[tuple[Setting, tuple[str, str, str, str], int, np.ndarray]]:
    """Every group of every setting, definition and seed: the setting, the key of its rows, the seed's place, members.

    The seeds of a key follow each other.
    """
    for setting in settings:
        for definition, group in setting.groups.items():
            for name in GROUPS:
                if (group == name).any():
                    for row in range(len(setting.runs)):
                        key = (setting.scenario, setting.placement, definition, name)
                        yield setting, key, row, group[row] == name


def _over_seeds(rows: Sequence[tuple[object, ...]], of: list[str], confidence: float) -> pd.DataFrame:
    keys = ["scenario", "placement", "definition", "group", *of]
    return over_seeds(pd.DataFrame(rows, columns=[*keys, "value"]), keys, confidence)
