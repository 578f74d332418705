"""Which examples helped and harmed each mistake of an audit."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from turnover.attribution.arguments import Asked, pairs_of
from turnover.attribution.reductions import TopK
from turnover.attribution.scorer import spans
from turnover.attribution.tiles import Tiles, grid_of
from turnover.auditing.evidence import Evidence
from turnover.auditing.inputs import Inputs
from turnover.batches.passes import full_precision

_TOP = 5  # helpful and harmful examples of each mistake
_SLACK = 256  # see `TopK`


def influence_table(inputs: Inputs, data: Tensor, evidence: Evidence, mistakes: Tensor) -> pd.DataFrame:
    """The most helpful and the most harmful examples of each mistake; of data with splits, those of the train split.

    Args:
        inputs: the examples.
        data: what the network takes, [n, ...].
        evidence: what was found.
        mistakes: places [targets].
    """
    columns = ["name", "label", "kind", "rank", "example", "example_label", "influence"]
    if not len(mistakes):
        return pd.DataFrame(columns=columns)
    labels = torch.from_numpy(inputs.labels)
    taught = torch.ones(len(labels), dtype=torch.bool)
    if inputs.splits is not None and "train" in inputs.splits:
        taught = torch.tensor([split == "train" for split in inputs.splits])
    found = _extremes(evidence, data, labels, mistakes, taught)
    rows = []
    for target, place in enumerate(mistakes.tolist()):
        for kind, (examples, values) in found.items():
            pairs = zip(examples[target].tolist(), values[target].tolist(), strict=True)
            for rank, (example, value) in enumerate(((of, value) for of, value in pairs if value), 1):
                of = inputs.names[place], inputs.classes[inputs.labels[place]], kind, rank
                rows.append((*of, inputs.names[example], inputs.classes[inputs.labels[example]], value))
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(influence=frame["influence"].astype(float).round(6))


def _extremes(
    evidence: Evidence, data: Tensor, labels: Tensor, mistakes: Tensor, taught: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """What helped and what harmed the mistakes most: of each kind places and influences [targets, at most 5].

    All pairs are gone through once, and only these are kept: the influences of a million examples would take gigabytes.

    Args:
        taught: which examples may be named, bool [n]; where there are fewer than 5, influences are 0.
    """
    asked, width = Asked(fused=False), len(mistakes)  # not compiled: another compiler would give other bits
    pairs = pairs_of([evidence.network], [evidence.readings], data[mistakes], labels[mistakes], asked)
    grid, held = grid_of(pairs, width, asked.memory)
    device, top = pairs.scorers[0].device, min(_TOP, len(labels))
    helpful, harmful = (
        TopK(width, top, largest=largest, dim=1, slack=_SLACK, device=device) for largest in (True, False)
    )
    with full_precision():
        for tile in Tiles(pairs, grid, spans(width, grid[1]), memory=held).of(slice(0, len(labels))):
            rows = torch.arange(tile.rows.start, tile.rows.stop)
            named = taught[rows, None] & (rows[:, None] != mistakes[tile.columns])  # not its own
            scores = torch.where(named.to(device), tile.scores[0], 0.0)
            for found in (helpful, harmful):
                found.update(tile.columns, tile.rows.start, scores)
    best, best_values, _ = helpful.result()
    worst, worst_values, _ = harmful.result()
    return {
        "helpful": (best.cpu(), best_values.clamp(min=0.0).cpu()),
        "harmful": (worst.cpu(), worst_values.clamp(max=0.0).cpu()),
    }
