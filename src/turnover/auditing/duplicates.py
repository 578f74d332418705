"""Examples that are there twice: with the same values, or nearly, also shifted, scaled and in another brightness.

Candidates among images are those whose amplitudes of frequencies are alike, which a shift does not change. A pair
counts where the pictures correlate at some shift: between 4,000 unlike images of Fashion-MNIST the most was .9933.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

ALIKE = 0.993  # correlation of two pictures of one thing
CLOSE = 0.05  # distance of two embeddings of one thing, in median distances of nearest neighbours
LARGEST = 100_000  # of more examples, only the same ones are looked for: all pairs would take too long
_NEAR = 10  # candidates for each example
_SIDE, _FREQUENCIES = 32, 8
_SHIFT = 0.1  # of a side
_PAIRS = 256  # pictures that are compared at once: a few fit in the processor's cache, many cost fresh memory each time
_ROWS = 1024


def duplicates(inputs: Tensor) -> pd.DataFrame:
    """Pairs of examples that are one.

    Args:
        inputs: uint8 images [n, channels, height, width] or float embeddings [n, d].

    Returns:
        A row a pair, the closest first: ``first`` and ``second``, places of the two (the first the lower one),
        ``kind``, "exact" or "near", and ``similarity``, at most 1. Of many that are exactly one, each is paired with
        the first of them only.
    """
    exact, alone = _same(inputs)
    rows = [(first, second, "exact", 1.0) for first, second in exact]
    if len(alone) <= LARGEST and len(alone) > 1:
        near = _alike_images(inputs, alone) if inputs.dim() == 4 else _close_embeddings(inputs, alone)
        rows += [(first, second, "near", similarity) for first, second, similarity in near]
    rows.sort(key=lambda row: (-row[3], row[0], row[1]))
    return pd.DataFrame(rows, columns=["first", "second", "kind", "similarity"])


def _same(inputs: Tensor) -> tuple[list[tuple[int, int]], Tensor]:
    """Pairs with the same values, and the places of all but the second ones."""
    seen: dict[bytes, int] = {}
    pairs, alone = [], []
    for place, values in enumerate(inputs.numpy()):
        first = seen.setdefault(blake2b(values.tobytes(), digest_size=16).digest(), place)
        if first == place:
            alone.append(place)
        else:
            pairs.append((first, place))
    return pairs, torch.tensor(alone, dtype=torch.int64)


def _alike_images(images: Tensor, places: Tensor) -> Iterator[tuple[int, int, float]]:
    grey = torch.cat([part.float().mean(1) for part in torch.split(images[places], _ROWS)])
    amplitudes = torch.cat([_amplitudes(part) for part in torch.split(grey, _ROWS)])
    shift = max(1, round(_SHIFT * min(grey.shape[1:])))
    seen: set[tuple[int, int]] = set()
    for start, similar in _nearest(amplitudes):
        rows = torch.arange(start, start + len(similar))[:, None].expand_as(similar).flatten()
        columns = similar.flatten()
        pairs = zip(torch.split(rows, _PAIRS), torch.split(columns, _PAIRS), strict=True)
        correlation = torch.cat([_correlation(grey[first], grey[second], shift) for first, second in pairs])
        for place in (correlation >= ALIKE).nonzero().flatten().tolist():
            first, second = sorted((int(places[rows[place]]), int(places[columns[place]])))
            if (first, second) not in seen:
                seen.add((first, second))
                yield first, second, round(float(correlation[place]), 6)


def _amplitudes(grey: Tensor) -> Tensor:
    """Unit vectors of the amplitudes of low frequencies, [n, width]; 0 of an image of one colour."""
    small = F.adaptive_avg_pool2d(grey[:, None], _SIDE)[:, 0]
    found = torch.fft.rfft2(small - small.mean((1, 2), keepdim=True)).abs()
    low = torch.cat([found[:, :_FREQUENCIES, :_FREQUENCIES], found[:, 1 - _FREQUENCIES :, :_FREQUENCIES]], 1)
    return F.normalize(low.flatten(1), dim=1)


def _correlation(first: Tensor, second: Tensor, shift: int) -> Tensor:
    """The largest correlation of pairs of pictures [n, height, width] over shifts of up to so many pixels, [n]."""
    height, width = first.shape[1:]
    core = _unit(first[:, shift : height - shift, shift : width - shift])
    best = torch.full((len(first),), -1.0)
    for down in range(2 * shift + 1):
        for right in range(2 * shift + 1):
            part = second[:, down : height - 2 * shift + down, right : width - 2 * shift + right]
            best = torch.maximum(best, (core * _unit(part)).sum(1))
    return best.clamp(max=1.0)


def _unit(pictures: Tensor) -> Tensor:
    values = pictures.flatten(1)
    return F.normalize(values - values.mean(1, keepdim=True), dim=1)


def _close_embeddings(embeddings: Tensor, places: Tensor) -> Iterator[tuple[int, int, float]]:
    values = embeddings[places]
    unit = F.normalize((values - values.mean(0)) / values.std(0).clamp(min=1e-12), dim=1)
    nearest = torch.cat([similar[:, 0] for _, similar in _nearest(unit)])
    distance = (unit - unit[nearest]).norm(dim=1)
    limit = CLOSE * float(distance.median())
    seen: set[tuple[int, int]] = set()
    for place in (distance < limit).nonzero().flatten().tolist():
        first, second = sorted((int(places[place]), int(places[nearest[place]])))
        if (first, second) not in seen:
            seen.add((first, second))
            yield first, second, round(1.0 - float(distance[place]) ** 2 / 2, 6)


def _nearest(unit: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Of blocks of unit vectors: the place of the first, and the most similar others of each [some, 10]."""
    count = min(_NEAR, len(unit) - 1)
    for start in range(0, len(unit), _ROWS):
        similarity = unit[start : start + _ROWS] @ unit.T
        similarity[torch.arange(len(similarity)), torch.arange(start, start + len(similarity))] = -2.0
        yield start, similarity.topk(count, dim=1).indices
