"""The whole matrix reduced on the fly: who helps and harms each target, and what each example is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.influence import make_scorer, tiles
from turnover.attribution.nearness import Localized, similarities
from turnover.attribution.reductions import TopK, Totals
from turnover.attribution.scorer import Measure, Precision, spans
from turnover.attribution.store import ScoreStore, fingerprint
from turnover.progress import progress_bar
from turnover.reading import processes as sharding
from turnover.reading.checks import Inputs, check_labels
from turnover.reading.passes import DEFAULT_MEMORY

_LEAST = 64  # training examples whose sums by class are held, whatever the memory


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
        train_ids, x, y, measure, precision, fused: as for `influence`; results keep the order of the ids.
        train_labels: labels [train] that the examples were trained with, integers of any type.
        top: helpful and harmful training examples to keep of each target; 0 for none.
        top_targets: helped targets to keep of each training example; 0 for none.
        store: keep every raw score there too, and take over those that are there already; see `ScoreStore`.
        memory: bytes of scratch, beside masks and results (which hold float32 [train, classes]). Up to half are for the
            sums by class of every model; with many classes the targets go through the networks several times, each
            time for some of the training examples, 64 at least.
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
    near = similarities(networks, len(train_ids), localized, memory)
    device, shard, count = scorers[0].device, sharding.shard(), len(scorers)
    train, targets = len(train_ids), len(y)
    row = Totals.row_bytes(count, classes) * (2 if near else 1)
    summed = min(train, max(_LEAST, memory // 2 // row))  # training examples whose sums by class fit
    room = max(0, memory - summed * row) // count
    blocks = [s.block(-(-targets // shard.processes), room) for s in scorers]
    grid = min(b[0] for b in blocks), min(b[1] for b in blocks)
    if store is not None:
        identity = fingerprint(networks, train_ids, x, y, measure, precision)
        for create in (True, False):  # the first process makes what the others open
            if create == (shard.number == 0):
                grid = store.open(train_ids, targets, count, grid, identity, create=create)
            sharding.wait()

    top, top_targets = min(top, train), min(top_targets, targets)
    (height, width), slack, several = grid, max(top, 256), count > 1
    extremes = {
        name: TopK(targets, top, largest=name == "helpful", dim=1, slack=slack, carry=several, device=device)
        for name in ("helpful", "harmful")
    }
    helped = TopK(train, top_targets, largest=True, dim=0, slack=max(top_targets, 1), device=device)
    summed = min(train, max(height, summed // height * height))  # whole tiles
    names = ("total", "total_raw") if near else ("total",)
    totals = {name: Totals(count, train_labels, classes, summed) for name in names}
    mine = spans(targets, width)[shard.number :: shard.processes]
    pairs = train * sum(part.stop - part.start for part in mine)
    show = progress if shard.number == 0 else False
    with progress_bar(total=pairs, unit="pair", description="influence", show=show) as bar:
        for part in spans(train, summed):
            for sums in totals.values():
                sums.begin(part)
            for rows, columns, raw, scores in tiles(
                scorers, near, spans(part.stop, height, part.start), mine, x, y, store
            ):
                one_hot = F.one_hot(y[columns].to(device), classes).float()
                for name, sums in totals.items():
                    for number, tile in enumerate(raw if name == "total_raw" else scores):
                        sums.update(number, rows, tile, one_hot)
                mean, error = scores[0], []
                if several:
                    spread, mean = torch.std_mean(torch.stack(scores), 0)
                    error = [spread / count**0.5]
                for reduction in extremes.values():
                    reduction.update(columns, rows.start, mean, *error)
                helped.update(rows, columns.start, mean)
                bar.update(mean.numel())
            for sums in totals.values():
                sums.end(device)
    sharding.wait()
    if store is not None and shard.number == 0:
        store.finish()
    sharding.wait()
    ids = train_ids.cpu()
    found: dict[str, Any] = {}
    for name, reduction in extremes.items():
        places, *values = (sharding.fill(mine, of).cpu() for of in reduction.result() if of is not None)
        found |= zip((name, f"{name}_error"), values, strict=False)  # errors only of several models
        found[f"{name}_ids"] = torch.where(places < 0, -1, ids[places])
    helped_targets, helped_most = sharding.best(*helped.result()[:2])
    found |= {f"{prefix}{name}": of for prefix, sums in totals.items() for name, of in sums.found.items()}
    return InfluenceSummary(train_ids=ids, helped_targets=helped_targets.cpu(), helped=helped_most.cpu(), **found)
