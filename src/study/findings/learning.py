"""Finding (i): are easy and difficult examples learned together, the easy ones faster? By the losses over training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

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
from study.findings.effects import Effect, Where, compare_groups, compare_seeds
from study.findings.protocol import Evidence, Plain, overlap, plain

MEMORIZATION, FIRST_LEARNED = "memorization", "first-learned epoch"
DEFINITIONS = (MEMORIZATION, FIRST_LEARNED)
KINDS_OF_DIFFICULTY = ((REAL, REAL_EASY, REAL_DIFFICULT), (RANDOM, RANDOM_EASY, RANDOM_DIFFICULT))
EARLY = 3  # epochs over which the speed of learning is taken


FITTED = 0.9  # of the fall of its loss: then an example counts as fitted


@dataclass(frozen=True)
class Setting:
    """One scenario and placement as arrays [seeds, training examples], examples in ascending order of id."""

    scenario: str
    placement: str
    runs: list[Run]  # [seeds]
    ids: np.ndarray  # [examples]
    real: np.ndarray  # [examples]: the label was not drawn at random
    wrong: np.ndarray  # [examples]: it was, and is not the original one
    first: np.ndarray  # decrease of the exposed loss an epoch until the first recorded one, nats
    speed: np.ndarray  # over the first EARLY epochs, nats an epoch
    mean_loss: np.ndarray  # exposed loss over training, nats
    learned: dict[str, np.ndarray]  # "first" and "finally": the epoch
    groups: dict[str, np.ndarray]  # definition -> group of each example, "" for those in between
    loss: np.ndarray  # exposed, [seeds, recorded epochs, examples]
    gap: np.ndarray  # flipped minus exposed loss, likewise
    placebo_gap: np.ndarray  # the same of the placebos, [seeds, recorded epochs, placebos]
    memorized: np.ndarray  # memorization (probability) at the end
    placebo_memorized: np.ndarray  # the same of the placebos, [seeds, placebos]
    epochs: np.ndarray

    def members(self, of: np.ndarray) -> np.ndarray:
        """Members [examples] as a group that is the same in every seed: [seeds, examples]."""
        return np.tile(of, (len(self.runs), 1))


def read_setting(study: Study, scenario: str, placement: str, quantile: float) -> Setting:
    """The arrays of one scenario and placement, groups by both definitions of difficulty from the other seeds."""
    examples = study.scenarios[scenario].examples
    trained = study.scenarios[scenario].of("train").sort_values("id")
    ids = trained["id"].to_numpy()
    placebos = np.sort(study.scenarios[scenario].of("placebo")["id"].to_numpy())
    runs = study.runs(scenario, placement)
    frames = [study.dynamics[run] for run in runs]
    first = {run.seed: first_learned(frame) for run, frame in zip(runs, frames, strict=True)}

    def groups(definition: str, run: Run) -> np.ndarray:
        difficulty = study.difficulty(run) if definition == MEMORIZATION else of_other_seeds(first, run.seed).loc[ids]
        named = assign_groups(examples, difficulty, quantile)
        found: np.ndarray = named.reindex(ids).fillna("").to_numpy(str)
        return found

    def losses(network: str, of: np.ndarray) -> np.ndarray:
        return np.stack([_losses(frame, of, network) for frame in frames])

    epochs = np.sort(frames[0]["epoch"].unique()).astype(np.float64)
    loss, flipped = losses("exposed", ids), losses("flipped", ids)
    placebo_loss, placebo_flipped = losses("exposed", placebos), losses("flipped", placebos)
    decrease = (loss[:, :1] - loss[:, 1:]) / (epochs[1:] - epochs[0])[None, :, None]
    early = max(0, int((epochs[1:] <= EARLY).sum()) - 1)
    return Setting(
        scenario,
        placement,
        runs,
        ids,
        real=~trained["is_random"].to_numpy(bool),
        wrong=(trained["is_random"] & trained["wrong"]).to_numpy(bool),
        first=decrease[:, 0],
        speed=decrease[:, early],
        mean_loss=over_training(loss, epochs),
        learned={
            "first": np.stack([first[run.seed].loc[ids].to_numpy() for run in runs]),
            "finally": np.stack([finally_learned(frame).loc[ids].to_numpy() for frame in frames]),
        },
        groups={definition: np.stack([groups(definition, run) for run in runs]) for definition in DEFINITIONS},
        loss=loss,
        gap=flipped - loss,
        placebo_gap=placebo_flipped - placebo_loss,
        memorized=np.exp(-loss[:, -1]) - np.exp(-flipped[:, -1]),
        placebo_memorized=np.exp(-placebo_loss[:, -1]) - np.exp(-placebo_flipped[:, -1]),
        epochs=epochs,
    )


def over_training(loss: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Mean over training of a loss [seeds, recorded epochs, examples], from epoch 1 (or the first after 0) to the last.

    Trapezoidal between recorded epochs, so that late ones, which lie further apart, count for the time between them.
    """
    trained = epochs > 0
    if trained.sum() == 1:
        only: np.ndarray = loss[:, trained][:, 0]
        return only
    after = epochs[trained]
    mean: np.ndarray = np.trapezoid(loss[:, trained], after, axis=1) / (after[-1] - after[0])
    return mean


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


def easy_faster(setting: Setting, confidence: float) -> Evidence:
    """P1: wrongly labelled minus real examples, exposed loss over training."""
    wrong, real = setting.members(setting.wrong), setting.members(setting.real)
    where = _where(setting, "exposed loss over training, wrongly labelled minus real examples")
    later = compare_groups(_where(setting, "", "epochs"), setting.learned["first"], wrong, real)
    return Evidence(
        (compare_groups(where, setting.mean_loss, wrong, real),),
        plain(later, "epochs later", confidence),
        {
            "first_learned_real": float(setting.learned["first"][real].mean()),
            "first_learned_wrong": float(setting.learned["first"][wrong].mean()),
        },
    )


def together(setting: Setting, confidence: float) -> Evidence:
    """P2: after the first epoch, wrong labels have an effect of their own, and easy examples are not fitted yet."""
    wrong = setting.members(setting.wrong)
    easy = setting.groups[MEMORIZATION] == REAL_EASY
    own = _own_effect(setting, wrong, "wrongly labelled examples")
    target = FITTED * setting.loss[:, -1] + (1 - FITTED) * setting.loss[:, 0]
    text = (
        f"exposed loss of the easy real examples after the first epoch, minus what it is with {FITTED:.0%} of its fall"
    )
    unfitted = compare_groups(_where(setting, text, definition=MEMORIZATION), setting.loss[:, 1] - target, easy)
    learning = [
        -np.stack([row[:, of].mean(1) for row, of in zip(setting.loss, easy, strict=True)]),
        np.stack([row[:, of].mean(1) for row, of in zip(setting.gap, wrong, strict=True)]),
    ]
    shared = compare_seeds(_where(setting, "overlap of the two learning periods", "share"), overlap(*learning).tolist())
    fall = setting.loss[:, 0] - setting.loss[:, -1]
    fitted = [1 - (left[of].mean() / whole[of].mean()) for left, whole, of in
              zip(setting.loss[:, 1] - setting.loss[:, -1], fall, easy, strict=True)]  # fmt: skip
    return Evidence(
        (own, unfitted),
        _likelier(own, confidence),
        {"overlap": plain(shared, "share", confidence)._asdict(), "easy_fitted": float(np.mean(fitted))},
    )


def _likelier(own: Effect, confidence: float) -> Plain:
    """A difference of log-probabilities in nats as per cent by which a label is likelier."""
    ends = own.interval(confidence)
    low, high = (None, None) if ends is None else (100 * math.expm1(end) for end in ends)
    return Plain(100 * math.expm1(own.mean), low, high, "% likelier after one epoch")


def easy_faster_real(setting: Setting, confidence: float) -> Evidence:
    """P3: difficult minus easy real examples, exposed loss over training."""
    easy, difficult = (setting.groups[MEMORIZATION] == group for group in (REAL_EASY, REAL_DIFFICULT))
    where = _where(setting, "exposed loss over training, difficult minus easy real examples", definition=MEMORIZATION)
    later = compare_groups(_where(setting, "", "epochs"), setting.learned["first"], difficult, easy)
    return Evidence(
        (compare_groups(where, setting.mean_loss, difficult, easy),),
        plain(later, "epochs later", confidence),
        {
            "first_learned_easy": float(setting.learned["first"][easy].mean()),
            "first_learned_difficult": float(setting.learned["first"][difficult].mean()),
        },
    )


def learning_effects(setting: Setting) -> Iterator[Effect]:
    """Everything else that the losses over training say, in one setting, by both definitions of difficulty."""
    measures = (
        ("exposed loss over training", "nats", 1.0, setting.mean_loss),
        ("first learned", "epochs", 1.0, setting.learned["first"]),
        (f"decrease of the exposed loss over the first {EARLY} epochs", "nats an epoch", -1.0, setting.speed),
    )
    for words, unit, sign, values in measures:
        if setting.wrong.any() and setting.real.any():
            yield _difference(setting, words, unit, sign * values, "wrongly labelled", "real", "")
        for definition, group in setting.groups.items():
            for _, easy, difficult in KINDS_OF_DIFFICULTY:
                if (group == easy).any():
                    yield _difference(setting, words, unit, sign * values, difficult, easy, definition)
    for name, members in _own(setting):
        yield _own_effect(setting, members, name)
        text, of_placebos = "memorization (probability) at the end", setting.placebo_memorized
        yield _minus_placebos(setting, text, "probability", setting.memorized, of_placebos, members, name)
    for name, kind in (("real", setting.real), ("randomly labelled", ~setting.real)):
        values = setting.learned["first"][:, kind]
        if kind.any() and len(setting.runs) > 2 and np.ptp(values, axis=1).all():  # else there is no rank to agree on
            text = f"first learned epoch of {name} examples, rank correlation of a seed with the mean of the others"
            yield compare_seeds(_where(setting, text, "rank correlation"), _agreement(values))


def _difference(
    setting: Setting, words: str, unit: str, values: np.ndarray, plus: str, minus: str, definition: str
) -> Effect:
    """The later (or slower) group minus the other one."""
    fixed = {"wrongly labelled": setting.members(setting.wrong), "real": setting.members(setting.real)}
    group = setting.groups[definition or MEMORIZATION]
    members = [fixed.get(name, group == name) for name in (plus, minus)]
    first, second = (minus, plus) if words.startswith("decrease") else (plus, minus)
    where = _where(setting, f"{words}, {first} minus {second} examples", unit, definition)
    return compare_groups(where, values, *members)


def _own(setting: Setting) -> Iterator[tuple[str, np.ndarray]]:
    """The groups whose own effect is measured."""
    if setting.wrong.any():
        yield "wrongly labelled examples", setting.members(setting.wrong)
    group = setting.groups[MEMORIZATION]
    for name in (REAL_DIFFICULT, REAL_EASY):
        if (group == name).any():
            yield f"{name} examples", group == name


def _own_effect(setting: Setting, members: np.ndarray, name: str) -> Effect:
    """Flipped minus exposed loss after the first epoch, minus that of the placebos, whom no network trained on."""
    text = "flipped minus exposed loss after the first epoch"
    return _minus_placebos(setting, text, "nats", setting.gap[:, 1], setting.placebo_gap[:, 1], members, name)


def _minus_placebos(
    setting: Setting, text: str, unit: str, values: np.ndarray, of_placebos: np.ndarray, members: np.ndarray, name: str
) -> Effect:
    """Mean of the values [seeds, examples] of some members, minus that of the placebos [seeds, placebos]."""
    if not of_placebos.size:  # in expectation theirs is 0
        return compare_groups(_where(setting, f"{text}, {name}", unit), values, members)
    plus = np.concatenate([members, np.zeros_like(of_placebos, bool)], axis=1)
    minus = np.concatenate([np.zeros_like(members), np.ones_like(of_placebos, bool)], axis=1)
    both = np.concatenate([values, of_placebos], axis=1)
    return compare_groups(_where(setting, f"{text}, {name} minus placebos", unit), both, plus, minus)


def _agreement(values: np.ndarray) -> list[float]:
    """Spearman correlation of each seed's values [seeds, examples] with the mean of the other seeds'."""
    others = (values.sum(0) - values) / (len(values) - 1)
    return [float(spearmanr(one, rest).statistic) for one, rest in zip(values, others, strict=True)]


def _where(setting: Setting, text: str, unit: str = "nats", definition: str = "") -> Where:
    return Where(setting.scenario, setting.placement, definition, text, unit)


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
