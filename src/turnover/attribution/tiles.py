"""The walk over all pairs, in tiles: down the training examples for one block of targets, then on to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from turnover.attribution.arguments import Pairs
from turnover.attribution.blends import Blend, Parts
from turnover.attribution.scorer import DTYPES, scratch, spans
from turnover.attribution.store import Grid, ScoreStore
from turnover.errors import UserError

_NARROW = 32  # targets of a block: with fewer, products are slow
_NOTHING = torch.empty(0)  # no factor: raw scores


class Tile(NamedTuple):
    """Scores of some training examples on some targets, float32 [train, target] of every network."""

    rows: slice
    columns: slice
    raw: list[Tensor]
    scores: list[Tensor]  # what was asked for


def grid_of(pairs: Pairs, targets: int, memory: int) -> tuple[Grid, int]:
    """How large tiles are, and how many bytes are left for what a blend holds.

    Args:
        targets: how many of them this process takes.
        memory: bytes of scratch.
    """
    count, held = len(pairs.scorers), memory // 2 if pairs.blend is not None else 0
    every = [*pairs.scorers, *pairs.left_out]
    blocks = [scorer.block(targets, (memory - held) // len(every)) for scorer in every]
    height, width = min(block[0] for block in blocks), min(block[1] for block in blocks)
    if pairs.blend is not None:  # narrower blocks cost less than computing every tile twice, down to a limit
        width = min(width, max(_NARROW, held // (len(pairs.train.ids) * count * pairs.blend.pair_bytes)))
    return (height, width), held


class Tiles:
    """All tiles of some blocks of targets.

    Args:
        pairs: what is scored.
        grid: height and width of a tile.
        columns: blocks of targets.
        memory: bytes for what a blend holds (see `turnover.attribution.blends`): the tiles of a block of targets, which
            are computed twice where they do not fit; and what is known of all blocks, if `of` goes through the training
            examples in parts.
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
        self.scorers, self.near, self.left_out, self.store = pairs.scorers, pairs.near, pairs.left_out, store
        self.device, self.dtype = self.scorers[0].device, DTYPES[pairs.precision]
        self._train, self._height, self._columns, self._memory = len(pairs.train.ids), grid[0], columns, memory
        self._blend = pairs.blend
        self._known: dict[int, Tensor] = {}  # by the first target of a block: [network, quantity, target]

    def of(self, part: slice) -> Iterator[Tile]:
        """The tiles of some training examples on all targets; parts begin where a tile does.

        Raises:
            UserError: a score is NaN or infinite.
        """
        for columns in self._columns:
            block, held, once = _Block(self, columns), dict[int, list[Parts]](), part == slice(0, self._train)
            if self._blend is not None and columns.start not in self._known:
                self._known[columns.start] = self._first_walk(self._blend, block, held, once=once)
            for rows in spans(part.stop, self._height, part.start):
                networks = held.pop(rows.start) if rows.start in held else block.parts(rows)
                raw = [parts.raw for parts in networks]
                scores = raw
                if self._blend is not None:
                    known = self._known[columns.start].to(self.device)
                    scores = [self._blend.scores(rows, *of) for of in zip(networks, known, strict=True)]
                elif self.near:
                    scores = [parts.raw * parts.factor for parts in networks]
                yield Tile(rows, columns, raw, scores)
            if once:
                self._known.clear()

    def _first_walk(self, blend: Blend, block: _Block, held: dict[int, list[Parts]], *, once: bool) -> Tensor:
        """What is known of all training examples, for a block of targets.

        Args:
            held: gets the tiles, if they fit.
            once: nobody asks for it again.

        Returns:
            float32 [network, quantity, target].
        """
        width, count = block.columns.stop - block.columns.start, len(self.scorers)
        fits = once and self._train * width * count * blend.pair_bytes <= self._memory
        sums = [blend.sums(width) for _ in self.scorers]
        for rows in spans(self._train, self._height):
            networks = block.parts(rows)
            for total, parts in zip(sums, networks, strict=True):
                blend.add(total, rows, parts)
            if fits:
                held[rows.start] = networks
        known = torch.stack([blend.known(total) for total in sums])
        if once:
            return known
        return scratch(tuple(known.shape), self._memory // (2 * len(self._columns)), self.device).copy_(known)


class _Block:
    """A block of targets: what its tiles share is made when the first of them is computed."""

    def __init__(self, tiles: Tiles, columns: slice) -> None:
        self.columns, self._tiles = columns, tiles
        self._prepared: list[Any] = []  # empty as long as all tiles are in the store
        self._near = [similar.targets(columns).to(tiles.dtype) for similar in tiles.near]
        self._left_out = [of.prepare(columns) for of in tiles.left_out]

    def parts(self, rows: slice) -> list[Parts]:
        """What the scores of some training examples on these targets are made of, for every network."""
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
        factors = [similar.factor(rows, of) for similar, of in near] or [_NOTHING] * len(raw)
        others = zip(self._tiles.left_out, self._left_out, strict=True)
        left_out: list[Tensor | None] = [of.tile(rows, prepared) for of, prepared in others]
        return [Parts(*of) for of in zip(raw, factors, left_out or [None] * len(raw), strict=True)]
