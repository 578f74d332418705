"""The whole matrix reduced on the fly: who helps and harms each target, and what each example is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.influence import DEFAULT_MEMORY, make_scorer, refuse_not_finite
from turnover.attribution.localization import Localized, Similarity, similarity
from turnover.attribution.reductions import TopK, Totals
from turnover.attribution.scorer import Measure, Precision, Scorer, device_of
from turnover.attribution.store import Grid, Inputs, ScoreStore, fingerprint
from turnover.progress import progress_bar
from turnover.reading import processes as sharding
from turnover.reading.checks import check_labels


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
        train_ids: ids [train] of training examples, in any order, each once; results keep it.
        train_labels: labels [train] that the examples were trained with, integers of any type.
        x: inputs of the targets [target, ...], as the models take them; see `Inputs`.
        y: labels of the targets [target].
        measure: "loss" (nats) or "margin" (logits); see `influence`.
        top: helpful and harmful training examples to keep of each target.
        top_targets: helped targets to keep of each training example; 0 for none.
        store: keep every raw score there too, and take over those that are there already; see `ScoreStore`.
        precision: of the matrix products.
        memory: bytes of scratch, beside masks and results.
        fused: compile the loss difference; by default where that pays.
        localized: inputs of the training examples [train, ...], row for row those of `train_ids`: reduce the scores
            that `turnover.localize` gives, every model's in its own feature space. None: the raw scores.
        progress: show a bar; by default on a terminal.

    Returns:
        The summary, on the CPU.

    Raises:
        ValueError, TypeError: as `influence`; models disagree about the number of classes.
        UserError: `store` holds the scores of something else.

    Under `torchrun`, once the default process group is initialized, processes share the targets, and
    each of them returns the whole summary.
    """
    networks = [models] if isinstance(models, nn.Module) else list(models)
    if not networks:
        raise ValueError("no model was given")
    train_labels = check_labels(train_labels, name="train_labels")
    if len(train_labels) != len(train_ids):
        raise ValueError(f"{len(train_ids)} training ids but {len(train_labels)} training labels")
    scorers = [make_scorer(m, train_ids, x, y, measure, precision, fused) for m in networks]
    classes = scorers[0].classes
    if any(s.classes != classes for s in scorers):
        raise ValueError(f"the models have different numbers of classes: {[s.classes for s in scorers]}")
    y, train_labels = y.long(), check_labels(train_labels, classes)
    near = [] if localized is None else [similarity(m, len(train_ids), localized) for m in networks]
    device, shard = device_of(networks[0]), sharding.shard()
    train, targets = len(train_ids), len(y)
    blocks = [s.block(-(-targets // shard.processes), memory // len(scorers)) for s in scorers]
    grid = Grid(min(b[0] for b in blocks), min(b[1] for b in blocks))
    if store is not None:
        identity = fingerprint(networks, train_ids, x, y, measure, precision)
        for create in (True, False):  # the first process makes what the others open
            if create == (shard.number == 0):
                grid = store.open(train_ids, targets, len(scorers), grid, identity, create=create)
            sharding.wait()

    several = len(scorers) > 1
    top, top_targets = min(top, train), min(top_targets, targets)
    slack = max(top, 256)
    helpful = TopK(targets, top, largest=True, dim=1, slack=slack, carry=several, device=device)
    harmful = TopK(targets, top, largest=False, dim=1, slack=slack, carry=several, device=device)
    helped = TopK(train, top_targets, largest=True, dim=0, slack=max(top_targets, 1), device=device)
    totals, raw_totals = Totals(len(scorers), train, classes), Totals(len(scorers), train, classes)
    mine = [slice(left, min(left + grid.width, targets)) for left in range(0, targets, grid.width)]
    mine = mine[shard.number :: shard.processes]
    rows = [slice(low, min(low + grid.height, train)) for low in range(0, train, grid.height)]
    pairs = train * sum(part.stop - part.start for part in mine)
    show = progress if shard.number == 0 else False
    with progress_bar(total=pairs, unit="pair", description="influence", show=show) as bar:
        for columns in mine:
            one_hot = F.one_hot(y[columns].to(device).long(), classes).float()
            targets_of = [similar.targets(x[columns].to(device)) for similar in near]
            for row, tiles in _tiles(scorers, rows, columns, x, y, store, device):
                if near:
                    for number, tile in enumerate(tiles):
                        raw_totals.update(number, row, tile, one_hot)
                    tiles = _localized(tiles, near, row, targets_of)
                for number, tile in enumerate(tiles):
                    totals.update(number, row, tile, one_hot)
                mean, error = _mean_and_error(tiles)
                if row.start == 0:
                    refuse_not_finite(mean[0], columns.start)
                helpful.update(columns, row.start, mean, error)
                harmful.update(columns, row.start, mean, error)
                if top_targets:
                    helped.update(row, columns.start, mean)
                bar.update(mean.numel())
    sharding.wait()
    if store is not None and shard.number == 0:
        store.finish()
    sharding.wait()
    return _summary(train_ids, train_labels, mine, helpful, harmful, helped, totals, raw_totals if near else None)


def _localized(tiles: list[Tensor], near: list[Similarity], rows: slice, targets: list[Tensor]) -> list[Tensor]:
    """Every model's tile times its own factors."""
    factors = (similar.factor(rows, of) for similar, of in zip(near, targets, strict=True))
    return [tile * factor for tile, factor in zip(tiles, factors, strict=True)]


def _tiles(
    scorers: list[Scorer],
    rows: list[slice],
    columns: slice,
    x: Inputs,
    y: Tensor,
    store: ScoreStore | None,
    device: torch.device,
) -> Iterator[tuple[slice, list[Tensor]]]:
    """The tiles [train, target] of every model, one after the other down the columns."""
    prepared: list[Any] = []  # only once a tile is missing from the store
    for row in rows:
        tiles = []
        for number, scorer in enumerate(scorers):
            tile = store.read(number, row, columns) if store is not None else None
            if tile is None:
                if not prepared:
                    inputs, labels = x[columns].to(device), y[columns].to(device)
                    prepared = [s.prepare(inputs, labels) for s in scorers]
                tile = scorer.tile(row, prepared[number])
                if store is not None:
                    tile = store.write(number, row, columns, tile)
            tiles.append(tile.to(device))
        yield row, tiles


def _mean_and_error(tiles: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Mean over models and its standard error, None for a single model."""
    if len(tiles) == 1:
        return tiles[0], None
    stacked = torch.stack(tiles)
    spread, mean = torch.std_mean(stacked, 0)
    return mean, spread / len(tiles) ** 0.5


def _summary(
    train_ids: Tensor,
    train_labels: Tensor,
    mine: list[slice],
    helpful: TopK,
    harmful: TopK,
    helped: TopK,
    totals: Totals,
    raw_totals: Totals | None,
) -> InfluenceSummary:
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
    found |= _totals("total", totals, train_labels, values.device)
    if raw_totals is not None:
        found |= _totals("total_raw", raw_totals, train_labels, values.device)
    return InfluenceSummary(train_ids=ids, helped_targets=targets.cpu(), helped=values.cpu(), **found)


def _totals(prefix: str, totals: Totals, train_labels: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Totals of all processes, by class and of the own class, with standard errors for several models."""
    by_class = sharding.total(totals.by_class.to(device)).cpu()
    same = by_class.gather(2, train_labels.cpu().long().expand(len(by_class), -1).unsqueeze(2)).squeeze(2)
    found = {}
    for name, sums in (("", by_class.sum(2)), ("_by_class", by_class), ("_same_class", same)):
        found[prefix + name] = sums.mean(0).float()
        if len(sums) > 1:
            found[f"{prefix}{name}_error"] = (sums.std(0) / len(sums) ** 0.5).float()
    return found
