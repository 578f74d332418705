"""What is kept of the scores when the whole matrix is not: the extremes of every row or column, and sums.

Scores arrive in tiles and are forgotten. A tile entry only costs more than a comparison when it beats the
k-th best seen so far, which soon is rare: about ``k log(n/k)`` of n entries do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from turnover.batches import processes as sharding

_CHUNK = 1 << 20  # sums by class that are made at once


class TopK:
    """The k largest (or smallest) scores of every line, from tiles in any order.

    A line is what has its own top-k: a target (columns of a tile) or a training example (rows of a tile).
    Entries that beat a line's threshold are appended to a buffer; a full buffer is cut back to k, and the k-th
    value becomes the new threshold. Ties at the k-th place are broken arbitrarily.

    Args:
        lines, k: how many lines, and how many scores to keep of each.
        largest: keep the largest; otherwise the smallest.
        dim: dimension of a tile that runs over the lines.
        slack: room of the buffer beyond k.
        carry: keep a second number (a standard error) beside every score.
    """

    def __init__(
        self,
        lines: int,
        k: int,
        *,
        largest: bool,
        dim: int,
        slack: int,
        carry: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.k, self.dim, self.slack = k, dim, slack
        self._sign = 1.0 if largest else -1.0
        shape = lines, k + slack
        scores = torch.full(shape, -torch.inf, device=device)  # times the sign: the best are the largest
        ids = torch.full(shape, -1, dtype=torch.int32, device=device)
        self._columns = [scores, ids, *([torch.zeros(shape, device=device)] if carry else [])]
        self._filled = torch.zeros(lines, dtype=torch.int64, device=device)
        self._threshold = torch.full((lines,), -torch.inf, device=device)

    def update(self, lines: slice, offset: int, tile: Tensor, *carried: Tensor) -> None:
        """Take in a tile.

        Args:
            lines: which lines the tile's dimension `dim` covers.
            offset: number, along the other dimension, of the tile's first entry; kept as the id of the score.
            tile: float32 scores [train, target].
            carried: second numbers, as `tile`, where they are kept.
        """
        if not self.k:
            return
        parts = [tile, *carried] if self.dim == 0 else [tile.T, *(part.T for part in carried)]
        for cut in (False, True):
            threshold = self._threshold[lines].unsqueeze(1 - self.dim)
            found = (tile > threshold if self._sign > 0 else tile < -threshold).nonzero()
            count = torch.bincount(found[:, self.dim], minlength=lines.stop - lines.start)
            fits = (self._filled[lines] + count <= self.k + self.slack).all()
            if bool(fits & threshold.isfinite().all()):
                break
            if cut:
                self._merge(lines, offset, parts)
                return
            # A higher threshold may be all that it takes.
            self._keep(lines, [column[lines] for column in self._columns])
        if self.dim == 1:  # entries come row by row: bring those of a line together
            found = found[torch.argsort(found[:, 1], stable=True)].flip(1)
        line, other = found.unbind(1)
        first = count.cumsum(0) - count
        place = self._filled[lines][line] + torch.arange(len(line), device=tile.device) - first[line]
        scores, *seconds = (part[line, other] for part in parts)
        for column, values in zip(self._columns, [scores * self._sign, other + offset, *seconds], strict=True):
            column[lines][line, place] = values.to(column.dtype)
        self._filled[lines] += count

    def result(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Ids [lines, k] (-1 where fewer were seen), scores from the most extreme on, and second numbers."""
        if self.k:
            self._keep(slice(0, len(self._filled)), self._columns)
        scores, ids, *carried = (column[:, : self.k].clone() for column in self._columns)
        return ids.long(), scores * self._sign, carried[0] if carried else None

    def _merge(self, lines: slice, offset: int, parts: list[Tensor]) -> None:
        """Take in a whole tile by sorting it: the first of a line, or one that beats too much."""
        best, place = (parts[0] * self._sign).topk(min(self.k, parts[0].shape[1]), dim=1)
        new = [best, (place + offset).to(torch.int32), *(part.gather(1, place) for part in parts[1:])]
        pairs = zip(self._columns, new, strict=True)
        self._keep(lines, [torch.cat([column[lines][:, : self.k], values], 1) for column, values in pairs])

    def _keep(self, lines: slice, columns: list[Tensor]) -> None:
        """Leave these lines the k best of `columns`: scores, ids and second numbers [line, some]."""
        best, place = columns[0].topk(self.k, dim=1)
        for column, values in zip(self._columns, columns, strict=True):
            column[lines, : self.k] = values.gather(1, place)
        self._columns[0][lines, self.k :] = -torch.inf
        self._columns[1][lines, self.k :] = -1
        self._filled[lines] = self.k
        self._threshold[lines] = best[:, -1]


class Totals:
    """Sums of scores over the targets of each class, as mean and standard error over models.

    The sums of every model are only held for some training examples at a time.

    Args:
        train_labels: labels [train].
        rows: training examples at a time.
    """

    def __init__(self, models: int, train_labels: Tensor, classes: int, rows: int) -> None:
        self._labels, self._rows = train_labels.cpu(), slice(0, 0)
        self._sums = torch.zeros(models, rows, classes, dtype=torch.float64)
        # Means, and of several models standard errors, by the ends of their names in `InfluenceSummary`.
        self.found: dict[str, Tensor] = {}

    @staticmethod
    def row_bytes(models: int, classes: int) -> int:
        """Bytes of scratch that a training example takes: sums, and mean and error in the making."""
        return (models + 2) * classes * 8

    def begin(self, rows: slice) -> None:
        """Tiles of the training examples at `rows` follow."""
        self._rows = rows
        self._sums.zero_()

    def update(self, model: int, rows: slice, tile: Tensor, one_hot: Tensor) -> None:
        """Add a tile [train, target]; `one_hot` float32 [target, classes] tells the classes of its targets."""
        some = max(1, _CHUNK // one_hot.shape[1])
        for start, part in enumerate(torch.split(tile, some)):
            first = rows.start - self._rows.start + start * some
            self._sums[model, first : first + len(part)] += (part @ one_hot).to("cpu", torch.float64)

    def end(self, device: torch.device) -> None:
        """All tiles of these training examples have come, in every process; processes exchange tensors of `device`."""
        by_class = sharding.total(self._sums[:, : self._rows.stop - self._rows.start], device)
        same = by_class.gather(2, self._labels[self._rows].expand(len(by_class), -1).unsqueeze(2)).squeeze(2)
        for name, sums in (("", by_class.sum(2)), ("_by_class", by_class), ("_same_class", same)):
            values = {name: sums.mean(0)}
            if len(sums) > 1:
                values[f"{name}_error"] = sums.std(0) / len(sums) ** 0.5
            for key, value in values.items():
                whole = self.found.setdefault(key, torch.empty(len(self._labels), *value.shape[1:]))
                whole[self._rows] = value.float()
