"""What an audit asks of its network, against the library's own calls."""

from __future__ import annotations

import pandas as pd
import torch

from turnover import memorization
from turnover.auditing.evidence import gather
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
