"""The tables of an audit, from what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from turnover.auditing.evidence import Evidence
from turnover.auditing.inputs import Inputs
from turnover.auditing.suspicion import Suspicion
from turnover.batches.outputs import NETWORKS

RATE = 0.1  # of false discoveries, at which labels are listed as suspects
_MEMORIZED = 0.5  # of the probability of the given label
_OUTLIERS = 0.01  # of all examples


def labels_table(inputs: Inputs, found: Suspicion) -> pd.DataFrame:
    """A row an example, the most suspicious first."""
    classes = np.array(inputs.classes, dtype=object)
    order = found.score.argsort(descending=True, stable=True).numpy()
    listed = listed_suspects(found)
    columns: dict[str, Any] = {"rank": np.arange(1, len(order) + 1), "name": np.array(inputs.names, object)[order]}
    if inputs.splits is not None:
        columns["split"] = np.array(inputs.splits, object)[order]
    columns |= {
        "label": classes[inputs.labels][order],
        "suggested": classes[found.suggested.numpy()][order],
        "suggested_probability": found.probability.double().numpy()[order].round(4),
        "wrong_probability": found.wrong.double().numpy()[order].round(4),
        "suspicion": found.score.numpy()[order].round(4),
        "false_discovery_rate": found.false_discovery.double().numpy()[order].round(4),
        "suspect": np.arange(len(order)) < listed,
    }
    return pd.DataFrame(columns)


def listed_suspects(found: Suspicion) -> int:
    """How many labels, of the top of the ranking, are suspects: the longest list with few false discoveries."""
    return int((found.false_discovery <= RATE).sum())


def memorized_table(inputs: Inputs, evidence: Evidence) -> pd.DataFrame:
    """A row an example, the most memorized first. Memorized is not wrong: a rare example is memorized, too."""
    frame = evidence.memorized
    order = frame["sharpened"].to_numpy().argsort(kind="stable")[::-1]
    classes = np.array(inputs.classes, dtype=object)
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(order) + 1),
        "name": np.array(inputs.names, object)[order],
        "label": classes[inputs.labels][order],
    }
    for name in ("sharpened", "probability", "loss", "leverage", "support"):
        columns[name] = frame[name].to_numpy()[order].round(6)
    columns["memorized"] = columns["probability"] >= _MEMORIZED
    return pd.DataFrame(columns)


def outliers_table(inputs: Inputs, evidence: Evidence) -> pd.DataFrame:
    """The examples that stand most alone, a hundredth of all, by their leverage."""
    leverage = evidence.memorized["leverage"].to_numpy()
    order = leverage.argsort(kind="stable")[::-1][: max(1, round(_OUTLIERS * len(leverage)))]
    classes = np.array(inputs.classes, dtype=object)
    return pd.DataFrame(
        {
            "name": np.array(inputs.names, object)[order],
            "label": classes[inputs.labels][order],
            "leverage": leverage[order].round(6),
        }
    )


def classes_table(inputs: Inputs, found: Suspicion) -> pd.DataFrame:
    """A row a class: how many examples, how many of their labels are wrong by estimate, and for what they are taken."""
    count = len(inputs.classes)
    labels = torch.from_numpy(inputs.labels)
    wrong = torch.zeros(count, dtype=torch.float64).index_add_(0, labels, found.wrong.double())
    mass = torch.zeros(count, count, dtype=torch.float64)
    mass.index_put_((labels, found.suggested), found.probability.double(), accumulate=True)
    totals = np.bincount(inputs.labels, minlength=count)
    return pd.DataFrame(
        {
            "class": list(inputs.classes),
            "examples": totals,
            "share": (totals / totals.sum()).round(6),
            "wrong_labels": wrong.numpy().round(2),
            "most_often": [inputs.classes[place] for place in mass.argmax(1).tolist()],
        }
    )


def duplicates_table(inputs: Inputs, pairs: pd.DataFrame) -> pd.DataFrame:
    """A row a pair, by name, with what is bad about it: two labels for one thing, or one thing in two splits."""
    names, classes = np.array(inputs.names, object), np.array(inputs.classes, object)
    first, second = pairs["first"].to_numpy(np.int64), pairs["second"].to_numpy(np.int64)
    columns: dict[str, Any] = {
        "kind": pairs["kind"].to_numpy(),
        "similarity": pairs["similarity"].to_numpy(),
        "name": names[first],
        "other": names[second],
        "label": classes[inputs.labels[first]],
        "other_label": classes[inputs.labels[second]],
        "conflict": inputs.labels[first] != inputs.labels[second],
    }
    if inputs.splits is not None:
        splits = np.array(inputs.splits, object)
        columns |= {"split": splits[first], "other_split": splits[second], "leak": splits[first] != splits[second]}
    return pd.DataFrame(columns)


def mistakes_of(inputs: Inputs, evidence: Tensor, found: Suspicion, most: int) -> Tensor:
    """Places of examples that the evidence takes for another class, though their labels are no suspects.

    Those of the test and validation splits, if there are any; the worst first.
    """
    labels = torch.from_numpy(inputs.labels)
    of_label = evidence.gather(1, labels[:, None]).squeeze(1)
    wrong = (evidence.argmax(1) != labels) & (found.false_discovery > RATE)
    if inputs.splits is not None and "train" in inputs.splits and set(inputs.splits) != {"train"}:
        wrong &= torch.tensor([split != "train" for split in inputs.splits])
    places = wrong.nonzero().flatten()
    return places[of_label[places].argsort(stable=True)][:most]


def neighbours_of(evidence: Evidence, places: Sequence[int], labels: Tensor, top: int) -> list[list[int]]:
    """Of each of some examples, the places of the most similar others with another label."""
    found = []
    for block in torch.split(torch.tensor(list(places), dtype=torch.int64), 64):
        similar = evidence.directions[block] @ evidence.directions.T
        similar[labels[block][:, None] == labels[None]] = -2.0
        found += similar.topk(min(top, len(labels)), dim=1).indices.tolist()
    return found


def summary_of(inputs: Inputs, evidence: Evidence, found: Suspicion, pairs: pd.DataFrame) -> dict[str, Any]:
    """The numbers that one wants first."""
    accuracy = {of: round(float((evidence.readings.values[f"margin_{of}"] > 0).float().mean()), 4) for of in NETWORKS}
    counts = np.bincount(inputs.labels, minlength=len(inputs.classes))
    return {
        "examples": len(inputs),
        "classes": len(inputs.classes),
        "smallest_class": int(counts.min()),
        "largest_class": int(counts.max()),
        "wrong_labels": round(found.expected_wrong, 1),
        "suspects": listed_suspects(found),
        "false_discovery_rate": RATE,
        "duplicates": len(pairs),
        "accuracy": accuracy,
    }
