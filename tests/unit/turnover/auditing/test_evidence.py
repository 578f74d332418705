"""What an audit asks of its network, against the library's own calls."""

from __future__ import annotations

import itertools

import pandas as pd
import torch

from turnover import memorization
from turnover.auditing.evidence import gather, watched_epochs
from turnover.auditing.settings import choose


def test_memorization_is_the_library_s() -> None:
    """The audit asks all pairs once, for the votes, and takes support from these."""
    count, classes = 1200, 3
    labels = torch.arange(count) % classes
    noise = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    settings = choose(count, [], {"epochs": 3, "hidden": 32, "threads": 1, "device": "cpu"})
    data = noise + 1.5 * torch.nn.functional.one_hot(labels, 8)
    found = gather(data, labels, classes, settings, checkpoint=None, progress=False, stop=None)
    expected = memorization(found.network, found.readings)
    pd.testing.assert_frame_equal(found.memorized[expected.columns], expected)
    assert torch.allclose(found.votes.sum(1), torch.ones(count))


def test_epochs_of_which_probabilities_are_kept_fit_into_memory() -> None:
    """All where they fit; else evenly, up to the last one."""
    assert watched_epochs(1000, 10, 15) == list(range(1, 16))
    few = watched_epochs(1_000_000, 100, 15)
    assert few[-1] == 15
    assert len({after - before for before, after in itertools.pairwise(few)}) == 1
    assert 2 * 1_000_000 * 100 * len(few) <= 1.1 * (1 << 30)
    assert watched_epochs(10**9, 1000, 15) == [15]  # at least one
