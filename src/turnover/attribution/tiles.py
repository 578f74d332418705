"""The walk over all pairs, in tiles: down the training examples for one block of targets, then on to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from turnover.attribution.arguments import Pairs
from turnover.attribution.nearness import STRENGTH
from turnover.attribution.scorer import scratch, spans
from turnover.attribution.store import Grid, ScoreStore
from turnover.errors import UserError

_NARROW = 32  # targets of a block: with fewer, products are slow
_PAIR_BYTES = 8  # that pooling holds for each pair and network: raw score and factor


class Tile(NamedTuple):
    """Scores of some training examples on some targets, float32 [train, target] of every network."""

    rows: slice
    columns: slice
    raw: list[Tensor]
    scores: list[Tensor]  # localized, or pooled as well, or else the raw ones


class _Pairs(NamedTuple):
    """A tile in the making: raw scores of every network, and the factors that localize them, if there are any."""

    raw: list[Tensor]
    factors: list[Tensor]


def grid_of(pairs: Pairs, targets: int, memory: int) -> tuple[Grid, int]:
    """How large tiles are, and how many bytes are left for what pooling holds.

    Args:
        targets: how many of them this process takes.
        memory: bytes of scratch.
    """
    count, held = len(pairs.scorers), memory // 2 if pairs.pooled is not None else 0
    blocks = [scorer.block(targets, (memory - held) // count) for scorer in pairs.scorers]
    height, width = min(block[0] for block in blocks), min(block[1] for block in blocks)
    if held:  # narrower blocks cost less than computing every tile twice, down to a limit
        width = min(width, max(_NARROW, held // (len(pairs.train.ids) * count * _PAIR_BYTES)))
    return (height, width), held


class Tiles:
    """All tiles of some blocks of targets.

    Args:
        pairs: what is scored.
        grid: height and width of a tile.
        columns: blocks of targets.
        memory: bytes for what pooling within classes (see `turnover.pool_within_classes`) holds: the tiles of a block
            of targets, which are computed twice where they do not fit; and the means of all blocks, if `of` goes
            through the training examples in parts.
        store: read raw scores from there, and write those that it does not have.
    """

    def __init__(
        self,
        pairs: Pairs,
        grid: Grid,
        columns: Sequence[slice],
        *,
        memory: int = 0,
        store: ScoreStore | None = None,
    ) -> None:
        self.scorers, self.near, self.store = pairs.scorers, pairs.near, store
        self.device = self.scorers[0].device
        self._train, self._height, self._columns, self._memory = len(pairs.train.ids), grid[0], columns, memory
        self._means: dict[int, Tensor] = {}  # by the first target of a block: [network, class, target]
        # Of each training example, the place of its class among those that there are.
        self._group: Tensor | None = None
        self._classes = 0
        if pairs.pooled is not None:
            classes, self._group = torch.unique(pairs.pooled.to(self.device), return_inverse=True)
            self._classes = len(classes)

    def of(self, part: slice) -> Iterator[Tile]:
        """The tiles of some training examples on all targets; parts begin where a tile does.

        Raises:
            UserError: a score is NaN or infinite.
        """
        for columns in self._columns:
            block, held, once = _Block(self, columns), dict[int, _Pairs](), part == slice(0, self._train)
            if self._group is not None and columns.start not in self._means:
                self._means[columns.start] = self._class_means(block, held, once=once)
            for rows in spans(part.stop, self._height, part.start):
                raw, factors = held.pop(rows.start) if rows.start in held else block.pairs(rows)
                scores = [tile * factor for tile, factor in zip(raw, factors, strict=True)] if factors else raw
                if self._group is not None:
                    means = self._means[columns.start].to(self.device)[:, self._group[rows]]
                    for score, factor, mean in zip(scores, factors, means, strict=True):
                        score += STRENGTH * factor * mean
                yield Tile(rows, columns, raw, scores)
            if once:
                self._means.clear()

    def _class_means(self, block: _Block, held: dict[int, _Pairs], *, once: bool) -> Tensor:
        """Means of the raw scores over the training examples of each class, weighted by the factors.

        Args:
            held: gets the tiles, if they fit.
            once: nobody asks for these means again.

        Returns:
            float32 [network, class, target].
        """
        assert self._group is not None
        width, count = block.columns.stop - block.columns.start, len(self.scorers)
        fits = once and self._train * width * count * _PAIR_BYTES <= self._memory
        sums, weights = torch.zeros(2, count, self._classes, width, dtype=torch.float64, device=self.device)
        for rows in spans(self._train, self._height):
            pairs = block.pairs(rows)
            for number, (raw, factor) in enumerate(zip(*pairs, strict=True)):
                for total, values in ((sums, raw * factor), (weights, factor)):
                    some = torch.zeros(self._classes, width, device=self.device)
                    total[number] += some.index_add_(0, self._group[rows], values)
            if fits:
                held[rows.start] = pairs
        # Where no example of a class is near a target, there is nothing to pool, and the factor is 0 anyway.
        means: Tensor = (sums / weights.clamp(min=torch.finfo(torch.float32).tiny)).float()
        if once:
            return means
        return scratch(tuple(means.shape), self._memory // (2 * len(self._columns)), self.device).copy_(means)


class _Block:
    """A block of targets: what its tiles share is made when the first of them is computed."""

    def __init__(self, tiles: Tiles, columns: slice) -> None:
        self.columns, self._tiles = columns, tiles
        self._prepared: list[Any] = []  # empty as long as all tiles are in the store
        self._near = [similar.targets(columns) for similar in tiles.near]

    def pairs(self, rows: slice) -> _Pairs:
        """Raw scores and factors of some training examples on these targets."""
        store, raw = self._tiles.store, []
        for number, scorer in enumerate(self._tiles.scorers):
            tile = store.read(number, rows, self.columns) if store is not None else None
            if tile is None:
                self._prepared = self._prepared or [scorer.prepare(self.columns) for scorer in self._tiles.scorers]
                tile = scorer.tile(rows, self._prepared[number])
                tile = store.write(number, rows, self.columns, tile) if store is not None else tile
            raw.append(tile.to(self._tiles.device))
            # Exposed and flipped units together are all units: one training example's scores tell of every one's.
            if rows.start == 0 and not bool(raw[-1][0].isfinite().all()):
                wrong = self.columns.start + int(raw[-1][0].isfinite().logical_not().nonzero()[0])
                raise UserError(
                    f"the network's output for target {wrong} is NaN or infinite: did the training diverge, or "
                    "does x hold NaN or huge values there?"
                )
        near = zip(self._tiles.near, self._near, strict=True)
        return _Pairs(raw, [similar.factor(rows, of) for similar, of in near])
