"""The whole matrix reduced on the fly: who helps and harms each target, and what each example is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.attribution.arguments import Asked, Estimate, pairs_of
from turnover.attribution.nearness import Localized
from turnover.attribution.predictions import Predicted
from turnover.attribution.reductions import TopK, Totals
from turnover.attribution.scorer import Measure, Precision, spans
from turnover.attribution.store import ScoreStore, fingerprint
from turnover.attribution.tiles import Tiles, grid_of
from turnover.batches import processes as sharding
from turnover.batches.checks import Inputs, networks_of
from turnover.batches.passes import DEFAULT_MEMORY, full_precision
from turnover.errors import UserError
from turnover.masking.calling import Forward
from turnover.masking.undisturbed import sharded
from turnover.progress import progress_bar
from turnover.reading.options import check_options

# Sums by class that are held whatever the memory: of so many training examples, or as many as take so many bytes.
_LEAST, _LEAST_BYTES = 64, 1 << 20


@dataclass(frozen=True)
class InfluenceSummary:
    """What `summarize` keeps. Standard errors are over models, None for a single model.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x, y, names = torch.randn(4, 4), torch.tensor([0, 1, 2, 0]), ["a", "b", "c", "d"]
    >>> found = summarize(model, (x, y, names), (x, y), top=4)
    >>> sorted(found.names_of(found.helpful_ids)[0])  # of the first target, all four, most helpful first
    ['a', 'b', 'c', 'd']

    Where scores were localized (or pooled as well), everything is about these but the totals called raw, which are None
    where they were not.

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
    train_names: list[str] | None = None  # [train], where ids were given as names: `train_ids` are their hashes

    def names_of(self, ids: Tensor) -> list[Any]:
        """The names of training examples, in lists as `ids` (such as ``helpful_ids``) is shaped; None for -1.

        Ids that were given as integers are their own names.
        """
        names = {} if self.train_names is None else dict(zip(self.train_ids.tolist(), self.train_names, strict=True))

        def named(tree: Any) -> Any:
            if isinstance(tree, list):
                return [named(part) for part in tree]
            return names.get(tree, None if tree == -1 or names else tree)

        return named(ids.tolist())  # type: ignore[no-any-return]


def summarize(
    models: nn.Module | Sequence[nn.Module],
    train: Any,
    *targets: Any,
    measure: Measure = "loss",
    estimate: Estimate | None = None,
    predictions: Predicted | Sequence[Predicted] | None = None,
    top: int = 100,
    top_targets: int = 10,
    store: ScoreStore | None = None,
    precision: Precision = "float32",
    memory: int = DEFAULT_MEMORY,
    fused: bool | None = None,
    forward: Forward | None = None,
    localized: Localized | Inputs | None = None,
    batch_size: int = 256,
    classes: Sequence[str] | None = None,
    progress: bool | None = None,
) -> InfluenceSummary:
    """Influence of every training example on every target, averaged over models and reduced as it comes.

    >>> model = insert(torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)))
    >>> x, y = torch.randn(20, 4), torch.arange(20) % 3
    >>> found = summarize(model, (x, y), (x[:5], y[:5]), top=2)
    >>> found.helpful_ids.shape, found.total_by_class.shape
    (torch.Size([5, 2]), torch.Size([20, 3]))

    Args:
        models: a network with turn-over dropout, or several (seeds, checkpoints): their scores are averaged
            pair by pair.
        train, measure, estimate, predictions, precision, fused, forward, localized, batch_size, classes: as for
            `influence`; results keep the order of the data set, or of the ids.
        targets: as for `influence`: data, or inputs and labels. Where `train` are ids: the labels that these examples
            were trained with, then inputs and labels of the targets.
        top: helpful and harmful training examples to keep of each target; 0 for none.
        top_targets: helped targets to keep of each training example; 0 for none.
        store: keep every raw score there too, and take over those that are there already; see `ScoreStore`.
        memory: bytes of scratch, beside masks and results (which hold float32 [train, classes]). Up to half are for the
            sums by class of every model; with many classes the targets go through the networks several times, each
            time for some of the training examples.
        progress: show bars; by default on a terminal.

    Returns:
        The summary, on the CPU.

    Raises:
        ValueError, TypeError: as `influence`; models disagree about the number of classes, or a number to keep is
            negative.
        UserError: `store` holds the scores of something else.

    Under `torchrun`, once the default process group is initialized, processes share the targets, and
    each of them returns the whole summary.
    """
    networks = networks_of(models)
    check_options(top=top, top_targets=top_targets)
    if store is not None and not isinstance(store, ScoreStore):
        raise TypeError(f"store is a {type(store).__name__}: pass ScoreStore(folder)")
    if store is not None and estimate == "left-out":
        raise UserError('a store keeps what masks measure, which estimate="left-out" does without: leave store= out')
    shard, labels = sharding.shard(), None
    if len(targets) == 3:
        labels, *targets = targets  # type: ignore[assignment]
    if len(targets) not in (1, 2):
        raise TypeError(
            "summarize takes (models, train, targets) with data, (models, train, x, y), or (models, train_ids, "
            f"train_labels, x, y); got {len(targets)} arguments after the training examples"
        )
    if shard.processes > 1 and any(map(sharded, networks)):
        raise UserError(
            f"the weights are spread over {shard.processes} processes (fully_shard), which would have to run the "
            "network at the same moments, but summarize gives each of them targets of its own: load the whole weights "
            "into a plain network in each process"
        )
    asked = Asked(
        measure, estimate, precision, memory, fused, forward, localized, batch_size, classes, progress, predictions
    )
    x, y = (*targets, None)[:2]
    pairs = pairs_of(networks, train, x, y, asked, labels)
    if (train_labels := pairs.train.labels) is None:
        raise UserError("summarize sums by class: pass the labels of the training examples after their ids")
    count, device = len(networks), pairs.scorers[0].device
    size, width = len(pairs.train.ids), len(pairs.labels)
    row = Totals.row_bytes(count, pairs.classes) * (2 if pairs.near else 1)
    least = max(1, min(_LEAST, _LEAST_BYTES // row))
    summed = min(size, max(least, memory // 2 // row))  # training examples whose sums by class fit
    grid, held = grid_of(pairs, -(-width // shard.processes), max(0, memory - summed * row))
    if store is not None:
        identity = fingerprint(networks, pairs.contents(), measure, precision)
        for create in (True, False):  # the first process makes what the others open
            if create == (shard.number == 0):
                grid = store.open(pairs.train.ids, width, count, grid, identity, create=create)
            sharding.wait()

    top, top_targets = min(top, size), min(top_targets, width)
    height, slack, several = grid[0], max(top, 256), count > 1
    extremes = {
        name: TopK(width, top, largest=name == "helpful", dim=1, slack=slack, carry=several, device=device)
        for name in ("helpful", "harmful")
    }
    helped = TopK(size, top_targets, largest=True, dim=0, slack=max(top_targets, 1), device=device)
    summed = min(size, max(height, summed // height * height))  # whole tiles
    names = ("total", "total_raw") if pairs.near else ("total",)
    totals = {name: Totals(count, train_labels, pairs.classes, summed) for name in names}
    mine = spans(width, grid[1])[shard.number :: shard.processes]
    tiles = Tiles(pairs, grid, mine, memory=held, store=store)
    scores_to_come = size * sum(part.stop - part.start for part in mine)
    show = progress if shard.number == 0 else False
    with full_precision(), progress_bar(total=scores_to_come, unit="pair", description="influence", show=show) as bar:
        for part in spans(size, summed):
            for sums in totals.values():
                sums.begin(part)
            for rows, columns, raw, scores in tiles.of(part):
                one_hot = F.one_hot(pairs.labels[columns].to(device), pairs.classes).float()
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
    ids = pairs.train.ids
    found: dict[str, Any] = {}
    for name, reduction in extremes.items():
        places, *values = (sharding.fill(mine, of).cpu() for of in reduction.result() if of is not None)
        found |= zip((name, f"{name}_error"), values, strict=False)  # errors only of several models
        found[f"{name}_ids"] = torch.where(places < 0, -1, ids[places])
    helped_targets, helped_most = sharding.best(*helped.result()[:2])
    found |= {f"{prefix}{name}": of for prefix, sums in totals.items() for name, of in sums.found.items()}
    if pairs.train.names.dtype.kind not in "iu":
        found["train_names"] = pairs.train.names.tolist()
    return InfluenceSummary(train_ids=ids, helped_targets=helped_targets.cpu(), helped=helped_most.cpu(), **found)
