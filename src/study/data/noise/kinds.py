"""Give a share of a scenario's examples wrong labels, where chance alone does not say which.

Apart from `study.data.scenarios`, on which every training depends: a new kind of noise trains nothing anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from study.data.scenarios.scenario import Scenario
from turnover.errors import DataError, UserError, reason

INSTANCE = "instance"
LIST = "list:"  # begins a kind that names a file
Transitions = Mapping[str, Mapping[str, float]]
_STREAM = 0x6E6F697365  # "noise": keeps this generator apart from others that are made from the same seed
_FOLDS = 5
_PLACEBOS = 1_000_003  # added to their seed, as in `make_scenario`


def with_noise(scenario: Scenario, kind: str | Transitions, fraction: float, *, seed: int) -> Scenario:
    """`scenario`, a share of whose training examples, and of whose placebos, is given another label.

    Args:
        scenario: with the labels of the data set.
        kind: ``"instance"``: an example that a linear classifier of the other examples takes for another class gets
            that class, and the likelier it does, the likelier the example is chosen. A mapping, such as ``{"Shirt":
            {"Coat": 0.7, "Dress": 0.3}}``: which labels the examples of a class get; those of other classes keep
            theirs. ``"list:PATH"``: a csv file of the columns ``label`` and ``name`` (or ``source_index``, the place
            in the data set's training part).
        fraction: of the training examples, and of the placebos; of a list, of its examples.
        seed: with one seed, who gets a label at a fraction gets the same one at every larger fraction.

    Returns:
        The scenario with new columns ``given`` and ``is_random``.

    Raises:
        UserError: the kind names a class that is not there, or fewer examples can get a label than should.
    """
    examples = scenario.examples.copy()
    chance = _held_out(scenario) if kind == INSTANCE else None
    for number, split in enumerate(("train", "placebo")):
        rows = np.flatnonzero(examples["split"].to_numpy() == split)
        if not len(rows) or not fraction:
            continue
        rng = np.random.default_rng([seed + number * _PLACEBOS, _STREAM])
        labels, keys = _proposed(scenario, kind, rows, rng, chance)
        able = np.flatnonzero(labels >= 0)
        count = round(fraction * (len(able) if _is_list(kind) else len(rows)))
        if count > len(able):
            raise UserError(
                f"labels.noise.{scenario.name}: {fraction} of the {len(rows)} {split} examples are {count}, but "
                f"labels.kind gives a label to {len(able)} only: ask for fewer"
            )
        chosen = able[np.argsort(keys[able], kind="stable")[:count]]
        places = rows[chosen]
        examples.loc[places, "given"] = labels[chosen]
        examples.loc[places, "is_random"] = True
    return dataclasses.replace(scenario, examples=examples.drop(columns=["kind", "wrong"]))


def _proposed(
    scenario: Scenario,
    kind: str | Transitions,
    rows: npt.NDArray[np.int64],
    rng: np.random.Generator,
    chance: npt.NDArray[np.float64] | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The label that each of `rows` would get, -1 for none, and keys by which they are chosen, the smallest first."""
    original = scenario.examples["original"].to_numpy()[rows]
    drawn, keys = rng.random(len(rows)), rng.random(len(rows))
    if not isinstance(kind, str):
        shares = np.cumsum(transition_matrix(kind, scenario.classes), axis=1)[original]
        labels = np.where(shares[:, -1] > 0.0, (drawn[:, None] * shares[:, -1:] >= shares).sum(1), -1)
        return labels, keys
    if chance is None:
        return _listed(scenario, Path(kind.removeprefix(LIST)).expanduser(), rows), keys
    chance = chance[rows]
    chance[np.arange(len(rows)), original] = 0.0
    # Exponential clocks: those with the larger chance tend to ring first (Efraimidis & Spirakis 2006).
    return chance.argmax(1), -np.log1p(-keys) / chance.max(1).clip(min=1e-12)


def transition_matrix(transitions: Transitions, classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Shares [class, label that its examples get]; a row of zeros for a class that keeps its labels.

    Raises:
        UserError: a class is unknown, or the shares of one do not sum to 1.
    """
    matrix = np.zeros((len(classes), len(classes)))
    index = {name: number for number, name in enumerate(classes)}
    for true, row in transitions.items():
        for name in (true, *row):
            if name not in index:
                raise UserError(f"labels.kind: there is no class {name!r}; there are {', '.join(classes)}")
        if abs(sum(row.values()) - 1.0) > 1e-6:
            raise UserError(f"labels.kind: the shares of {true!r} sum to {sum(row.values()):g}, not to 1")
        for name, share in row.items():
            matrix[index[true], index[name]] = share
    return matrix


def _held_out(scenario: Scenario) -> npt.NDArray[np.float64]:
    """Probabilities [examples, classes] by logistic regression of the pixels, each from the others' true labels."""
    from sklearn.linear_model import LogisticRegression  # late: the other kinds need not wait for it
    from sklearn.model_selection import KFold

    pixels = scenario.images.reshape(len(scenario.images), -1) / 255.0
    labels = scenario.examples["original"].to_numpy()
    found = np.zeros((len(labels), len(scenario.classes)))
    folds = KFold(_FOLDS, shuffle=True, random_state=0)
    for inside, outside in folds.split(pixels):
        model = LogisticRegression(C=0.1, max_iter=100).fit(pixels[inside], labels[inside])
        found[outside[:, None], model.classes_] = model.predict_proba(pixels[outside])
    return found


def _listed(scenario: Scenario, path: Path, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The labels that the file at `path` gives to some of `rows`; -1 for the others."""
    try:
        table: Any = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise DataError(f"labels.kind: the list {path} cannot be read: {reason(error)}") from error
    key = next((name for name in ("name", "source_index") if name in table and name in scenario.examples), None)
    if key is None or "label" not in table:
        wanted = "name" if "name" in scenario.examples else "source_index"
        raise DataError(f"labels.kind: the list {path} needs the columns {wanted} and label; it has {list(table)}")
    if table[key].duplicated().any():
        raise DataError(f"labels.kind: the list {path} has {key} {table[key][table[key].duplicated()].iloc[0]!r} twice")
    index = {name: number for number, name in enumerate(scenario.classes)}
    unknown = sorted(set(table["label"]) - set(index))
    if unknown:
        raise DataError(f"labels.kind: the list {path} has the label {unknown[0]!r}, which is no class")
    given = dict(zip(table[key], table["label"].map(index), strict=True))
    return np.array([given.get(str(name), -1) for name in scenario.examples[key].to_numpy()[rows]], dtype=np.int64)


def _is_list(kind: str | Transitions) -> bool:
    return isinstance(kind, str) and kind.startswith(LIST)
