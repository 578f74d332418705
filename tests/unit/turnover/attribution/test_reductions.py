"""Streaming top-k equals sorting, in whatever order and cut the scores come."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from turnover.attribution.reductions import TopK


@settings(max_examples=40, deadline=None)
@given(
    train=st.integers(1, 90),
    targets=st.integers(1, 12),
    k=st.integers(1, 9),
    height=st.integers(1, 30),
    width=st.integers(1, 12),
    slack=st.integers(1, 12),
    largest=st.booleans(),
    dim=st.sampled_from([0, 1]),
    rising=st.booleans(),
)
def test_equals_sorting(
    train: int, targets: int, k: int, height: int, width: int, slack: int, largest: bool, dim: int, rising: bool
) -> None:
    scores = torch.randn(train, targets, generator=torch.Generator().manual_seed(train * targets))
    if rising:  # every tile beats all before: the buffer overflows again and again
        scores = scores.sort(0).values if largest else scores.sort(0, descending=True).values
    k = min(k, scores.shape[1 - dim])
    top = TopK(scores.shape[dim], k, largest=largest, dim=dim, slack=slack, carry=True)
    for left in range(0, targets, width):
        for low in range(0, train, height):
            tile = scores[low : low + height, left : left + width]
            rows, columns = slice(low, low + tile.shape[0]), slice(left, left + tile.shape[1])
            lines, other = (rows, columns) if dim == 0 else (columns, rows)
            top.update(lines, other.start, tile, tile * 2)
    ids, values, carried = top.result()
    by_line = scores if dim == 0 else scores.T
    torch.testing.assert_close(values, by_line.topk(k, dim=1, largest=largest).values)
    torch.testing.assert_close(by_line.gather(1, ids), values)
    torch.testing.assert_close(carried, values * 2)


@pytest.mark.parametrize("dim", [0, 1])
def test_later_tiles_are_not_sorted_whole(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    merges = []
    merge = TopK._merge
    monkeypatch.setattr(TopK, "_merge", lambda self, *rest: (merges.append(1), merge(self, *rest))[1])
    top = TopK(20, 5, largest=True, dim=dim, slack=40)
    scores = torch.randn(2000, 20, generator=torch.Generator().manual_seed(0))
    for low in range(0, 2000, 100):
        tile = scores[low : low + 100]
        top.update(slice(0, 20), low, tile if dim == 1 else tile.T)
    torch.testing.assert_close(top.result()[1], scores.topk(5, dim=0).values.T)
    assert len(merges) == 1


def test_fewer_than_k_scores_leave_places_empty() -> None:
    top = TopK(2, 3, largest=False, dim=1, slack=4)
    top.update(slice(0, 2), 10, torch.tensor([[1.0, 2.0], [0.0, 5.0]]))
    ids, values, _ = top.result()
    assert ids.tolist() == [[11, 10, -1], [10, 11, -1]]
    assert values[:, :2].tolist() == [[0.0, 1.0], [2.0, 5.0]]
