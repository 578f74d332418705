"""The whole matrix reduced on the fly: who helps and harms each target, and what each example is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.influence import make_scorer, spans, tiles
from turnover.attribution.nearness import Localized, similarity
from turnover.attribution.reductions import TopK, Totals
from turnover.attribution.scorer import Measure, Precision
from turnover.attribution.store import Grid, ScoreStore, fingerprint
from turnover.progress import progress_bar
from turnover.reading import processes as sharding
from turnover.reading.checks import Inputs, check_labels
from turnover.reading.passes import DEFAULT_MEMORY


@dataclass(frozen=True)
class InfluenceSummary:
    """What `summarize` keeps. Standard errors are over models, None for a single model.

    Where scores were localized, everything is about the localized ones but the totals called raw, which are None where
    they were not.

    Ids are those of `train_ids`, and -1 where there were fewer than k; targets are their positions in `x`.
    """

    train_ids: Tensor  # [train], in the order given; rows of everything [train, ...] below
    helpful_ids: Tensor  # [target, k], most helpful first
    helpful: Tensor  # float32 [target, k]
    harmful_ids: Tensor  # [target, k], most harmful first
    harmful: Tensor  # float32 [target, k], most negative first
    helped_targets: Tensor  # [train, top_targets], most helped first
    helped: Tensor  # float32 [train, top_targets]
    total: Tensor  # float32 [train], sum over targets
    total_by_class: Tensor  # float32 [train, classes], sum over the targets of each class
    total_same_class: Tensor  # float32 [train], sum over the targets of the example's own class
    helpful_error: Tensor | None = None
    harmful_error: Tensor | None = None
    total_error: Tensor | None = None
    total_by_class_error: Tensor | None = None
    total_same_class_error: Tensor | None = None
    total_raw: Tensor | None = None  # float32 [train], as `total`, of the raw scores
    total_raw_by_class: Tensor | None = None
    total_raw_same_class: Tensor | None = None
    total_raw_error: Tensor | None = None
    total_raw_by_class_error: Tensor | None = None
    total_raw_same_class_error: Tensor | None = None


def summarize(
    models: nn.Module | Sequence[nn.Module],
    train_ids: Tensor,
    train_labels: Tensor,
    x: Inputs,
    y: Tensor,
    *,
    measure: Measure = "loss",
    top: int = 100,
    top_targets: int = 10,
    store: ScoreStore | None = None,
    precision: Precision = "float32",
    memory: int = DEFAULT_MEMORY,
    fused: bool | None = None,
    localized: Localized | Inputs | None = None,
    progress: bool | None = None,
) -> InfluenceSummary:
    """Influence of every training example on every target, averaged over models and reduced as it comes.

    Args:
        models: a network with turn-over dropout, or several (seeds, checkpoints): their scores are averaged
            pair by pair.
        train_ids: ids [train] of training examples, in any order, which results keep; repeated ones are warned of.
        train_labels: labels [train] that the examples were trained with, integers of any type.
        x: inputs of the targets [target, ...], as the models take them, on any device: a tensor, or anything with a
            length that makes the tensor of a slice when asked.
        y: labels of the targets [target].
        measure: "loss" (nats) or "margin" (logits); see `influence`.
        top: helpful and harmful training examples to keep of each target; 0 for none.
        top_targets: helped targets to keep of each training example; 0 for none.
        store: keep every raw score there too, and take over those that are there already; see `ScoreStore`.
        precision: of the matrix products.
        memory: bytes of scratch, beside masks and results (which hold float32 [train, classes]). Up to half are for the
            sums by class of every model; with many classes the targets go through the networks several times, each
            time for some of the training examples. A single row of few targets is the least that is done at once.
        fused: compile the loss difference; by default where that pays.
        localized: inputs of the training examples [train, ...], row for row those of `train_ids`: reduce the scores
            that `turnover.localize` gives, every model's in its own feature space. None: the raw scores.
        progress: show a bar; by default on a terminal.

    Returns:
        The summary, on the CPU.

    Raises:
        ValueError, TypeError: as `influence`; models disagree about the number of classes, or a number to keep is
            negative.
        UserError: `store` holds the scores of something else.

    Under `torchrun`, once the default process group is initialized, processes share the targets, and
    each of them returns the whole summary.
    """
    networks = [models] if isinstance(models, nn.Module) else list(models)
    if not networks:
        raise ValueError("no model was given")
    for name, count in (("top", top), ("top_targets", top_targets)):
        if count < 0:
            raise ValueError(f"{name}={count}: it must not be negative")
    train_labels = check_labels(train_labels, name="train_labels")
    if len(train_labels) != len(train_ids):
        raise ValueError(f"{len(train_ids)} training ids but {len(train_labels)} training labels")
    scorers = [make_scorer(m, train_ids, x, y, measure, precision, fused) for m in networks]
    classes = scorers[0].classes
    if any(s.classes != classes for s in scorers):
        raise ValueError(f"the models have different numbers of classes: {[s.classes for s in scorers]}")
    y, train_labels = y.long(), check_labels(train_labels, classes)
    near = [] if localized is None else [similarity(m, len(train_ids), localized, memory) for m in networks]
    device, shard, count = scorers[0].device, sharding.shard(), len(scorers)
    train, targets = len(train_ids), len(y)
    row = Totals.row_bytes(count, classes) * (2 if near else 1)
    summed = min(train, max(1, memory // 2 // row))  # training examples whose sums by class fit
    room = max(0, memory - summed * row) // count
    blocks = [s.block(-(-targets // shard.processes), room) for s in scorers]
    grid = Grid(min(b[0] for b in blocks), min(b[1] for b in blocks))
    if store is not None:
        identity = fingerprint(networks, train_ids, x, y, measure, precision)
        for create in (True, False):  # the first process makes what the others open
            if create == (shard.number == 0):
                grid = store.open(train_ids, targets, count, grid, identity, create=create)
            sharding.wait()

    top, top_targets = min(top, train), min(top_targets, targets)
    slack, several = max(top, 256), count > 1
    helpful = TopK(targets, top, largest=True, dim=1, slack=slack, carry=several, device=device)
    harmful = TopK(targets, top, largest=False, dim=1, slack=slack, carry=several, device=device)
    helped = TopK(train, top_targets, largest=True, dim=0, slack=max(top_targets, 1), device=device)
    summed = max(grid.height, summed // grid.height * grid.height)  # whole tiles
    totals = {"total": Totals(count, train_labels, classes, min(summed, train))}
    if near:
        totals["total_raw"] = Totals(count, train_labels, classes, min(summed, train))
    mine = spans(targets, grid.width)[shard.number :: shard.processes]
    pairs = train * sum(part.stop - part.start for part in mine)
    show = progress if shard.number == 0 else False
    with progress_bar(total=pairs, unit="pair", description="influence", show=show) as bar:
        for part in spans(train, summed):
            for sums in totals.values():
                sums.begin(part)
            for rows, columns, raw, scores in tiles(
                scorers, near, spans(part.stop, grid.height, part.start), mine, x, y, store
            ):
                one_hot = F.one_hot(y[columns].to(device), classes).float()
                for name, sums in totals.items():
                    for number, tile in enumerate(raw if name == "total_raw" else scores):
                        sums.update(number, rows, tile, one_hot)
                mean, error = _mean_and_error(scores)
                helpful.update(columns, rows.start, mean, error)
                harmful.update(columns, rows.start, mean, error)
                helped.update(rows, columns.start, mean)
                bar.update(mean.numel())
            for sums in totals.values():
                sums.end(device)
    sharding.wait()
    if store is not None and shard.number == 0:
        store.finish()
    sharding.wait()
    return _summary(train_ids, mine, helpful, harmful, helped, totals)


def _mean_and_error(tiles: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Mean over models and its standard error, None for a single model."""
    if len(tiles) == 1:
        return tiles[0], None
    stacked = torch.stack(tiles)
    spread, mean = torch.std_mean(stacked, 0)
    return mean, spread / len(tiles) ** 0.5


def _summary(
    train_ids: Tensor, mine: list[slice], helpful: TopK, harmful: TopK, helped: TopK, totals: dict[str, Totals]
) -> InfluenceSummary:
    """What all processes found."""
    ids = train_ids.cpu()
    found: dict[str, Any] = {}
    for name, reduction in (("helpful", helpful), ("harmful", harmful)):
        places, values, errors = reduction.result()
        places = sharding.fill(mine, places).cpu()
        found[f"{name}_ids"] = torch.where(places < 0, -1, ids[places])
        found[name] = sharding.fill(mine, values).cpu()
        found[f"{name}_error"] = sharding.fill(mine, errors).cpu() if errors is not None else None
    targets, values, _ = helped.result()
    targets, values = sharding.best(targets, values)
    for prefix, sums in totals.items():
        found |= sums.named(prefix)
    return InfluenceSummary(train_ids=ids, helped_targets=targets.cpu(), helped=values.cpu(), **found)
