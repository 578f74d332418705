"""What is kept of the scores when the whole matrix is not: the extremes of every row or column, and sums.

Scores arrive in tiles and are forgotten. A tile entry only costs more than a comparison when it beats the
k-th best seen so far, which soon is rare: about ``k log(n/k)`` of n entries do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from turnover.reading import processes as sharding

_CHUNK = 1 << 20  # sums by class that are made at once


class TopK:
    """The k largest (or smallest) scores of every line, from tiles in any order.

    A line is what has its own top-k: a target (columns of a tile) or a training example (rows of a tile).
    Entries that beat a line's threshold are appended to a buffer; a full buffer is cut back to k, and the k-th
    value becomes the new threshold. Ties at the k-th place are broken arbitrarily.

    Args:
        lines: number of lines.
        k: how many scores to keep of each.
        largest: keep the largest; otherwise the smallest.
        dim: dimension of a tile that runs over the lines.
        slack: room of the buffer beyond k.
        carry: keep a second number (a standard error) beside every score.
        device: where the tiles are.
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
        self.k, self.largest, self.dim = k, largest, dim
        self._values = torch.full((lines, k + slack), -torch.inf, device=device)
        self._ids = torch.full((lines, k + slack), -1, dtype=torch.int32, device=device)
        self._carried = torch.zeros(lines, k + slack, device=device) if carry else None
        self._filled = torch.zeros(lines, dtype=torch.int64, device=device)
        self._threshold = torch.full((lines,), -torch.inf, device=device)
        self._started = torch.zeros(lines, dtype=torch.bool)  # on the host: asked before every tile

    def update(self, lines: slice, offset: int, tile: Tensor, carried: Tensor | None = None) -> None:
        """Take in a tile.

        Args:
            lines: which lines the tile's dimension `dim` covers.
            offset: number, along the other dimension, of the tile's first entry; kept as the id of the score.
            tile: float32 scores [train, target].
            carried: second numbers, as `tile`.
        """
        if not self.k:
            return
        if not self._started[lines].all():
            self._started[lines] = True
            self._merge(lines, offset, tile, carried)
            return
        found = self._hits(lines, tile)
        line, other = found[:, self.dim], found[:, 1 - self.dim]
        count = torch.bincount(line, minlength=lines.stop - lines.start)
        if bool((self._filled[lines] + count > self._values.shape[1]).any()):
            self._compact(lines)
            found = self._hits(lines, tile)
            line, other = found[:, self.dim], found[:, 1 - self.dim]
            count = torch.bincount(line, minlength=lines.stop - lines.start)
            if bool((self._filled[lines] + count > self._values.shape[1]).any()):
                self._merge(lines, offset, tile, carried)
                return
        if not len(found):
            return
        scores = tile[found[:, 0], found[:, 1]]
        seconds = carried[found[:, 0], found[:, 1]] if carried is not None else None
        if self.dim == 1:  # entries come row by row: bring those of a line together
            order = torch.argsort(line, stable=True)
            line, other, scores = line[order], other[order], scores[order]
            seconds = seconds[order] if seconds is not None else None
        first = count.cumsum(0) - count
        place = self._filled[lines][line] + torch.arange(len(line), device=tile.device) - first[line]
        self._values[lines][line, place] = scores if self.largest else -scores
        self._ids[lines][line, place] = (other + offset).to(torch.int32)
        if self._carried is not None and seconds is not None:
            self._carried[lines][line, place] = seconds
        self._filled[lines] += count

    def result(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Ids [lines, k] (-1 where fewer were seen), scores from the most extreme on, and second numbers."""
        if self.k:
            self._compact(slice(0, len(self._values)))
        values = self._values[:, : self.k]
        carried = self._carried[:, : self.k].clone() if self._carried is not None else None
        return self._ids[:, : self.k].long(), values.clone() if self.largest else -values, carried

    def _hits(self, lines: slice, tile: Tensor) -> Tensor:
        threshold = self._threshold[lines].unsqueeze(1 - self.dim)
        return (tile > threshold if self.largest else tile < -threshold).nonzero()

    def _compact(self, lines: slice) -> None:
        values, place = self._values[lines].topk(self.k, dim=1)
        self._keep(
            lines,
            values,
            self._ids[lines].gather(1, place),
            self._carried[lines].gather(1, place) if self._carried is not None else None,
        )

    def _merge(self, lines: slice, offset: int, tile: Tensor, carried: Tensor | None) -> None:
        """Take in a whole tile by sorting it: the first of a line, or one that beats too much."""
        self._compact(lines)
        if self.dim == 1:
            tile, carried = tile.T, carried.T if carried is not None else None
        tile = tile if self.largest else -tile
        best, place = tile.topk(min(self.k, tile.shape[1]), dim=1)
        values = torch.cat([self._values[lines][:, : self.k], best], 1)
        ids = torch.cat([self._ids[lines][:, : self.k], (place + offset).to(torch.int32)], 1)
        values, chosen = values.topk(self.k, dim=1)
        seconds = None
        if self._carried is not None and carried is not None:
            seconds = torch.cat([self._carried[lines][:, : self.k], carried.gather(1, place)], 1)
            seconds = seconds.gather(1, chosen)
        self._keep(lines, values, ids.gather(1, chosen), seconds)

    def _keep(self, lines: slice, values: Tensor, ids: Tensor, carried: Tensor | None) -> None:
        self._values[lines, : self.k] = values
        self._values[lines, self.k :] = -torch.inf
        self._ids[lines, : self.k] = ids
        if self._carried is not None and carried is not None:
            self._carried[lines, : self.k] = carried
        self._filled[lines] = self.k
        self._threshold[lines] = values[:, -1]


class Totals:
    """Sums of scores over the targets of each class, as mean and standard error over models.

    The sums of every model are only held for some training examples at a time.

    Args:
        models: number of models.
        train_labels: labels [train].
        classes: number of classes.
        rows: training examples at a time.
    """

    def __init__(self, models: int, train_labels: Tensor, classes: int, rows: int) -> None:
        self._labels, self._rows = train_labels.cpu().long(), slice(0, 0)
        self._sums = torch.zeros(models, rows, classes, dtype=torch.float64)
        train = len(train_labels)
        shapes = {"": (train,), "_by_class": (train, classes), "_same_class": (train,)}
        self.mean = {name: torch.empty(shape) for name, shape in shapes.items()}
        self.error = {name: torch.empty(shape) for name, shape in shapes.items() if models > 1}

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
            self.mean[name][self._rows] = sums.mean(0).float()
            if self.error:
                self.error[name][self._rows] = (sums.std(0) / len(sums) ** 0.5).float()

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Mean and, of several models, standard error, under the names that `InfluenceSummary` has for them."""
        found = {prefix + name: values for name, values in self.mean.items()}
        return found | {f"{prefix}{name}_error": values for name, values in self.error.items()}
