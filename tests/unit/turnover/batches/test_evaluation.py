"""What training records is what anybody would read."""

from __future__ import annotations

import pytest
import torch

from turnover.batches.evaluation import evaluate
from turnover.errors import UserError
from turnover.masking.insertion import insert
from turnover.reading.one_pass import read

X, Y, IDS = torch.randn(50, 1, 8, 8), torch.arange(50) % 3, torch.arange(50) * 7 - 100


def network(after: str | None) -> torch.nn.Module:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 32), torch.nn.ReLU(),
        torch.nn.Linear(32, 3),
    )  # fmt: skip
    return plain if after is None else insert(plain, after)


@pytest.mark.parametrize("batch_size", [7, 50, 64])
@pytest.mark.parametrize("after", ["head", "all", None])
def test_the_same_as_read(after: str | None, batch_size: int) -> None:
    model = network(after).train()
    found = evaluate(model, X, Y, IDS, batch_size=batch_size)
    expected = read(model, X, Y, IDS, features=False, batch_size=batch_size).values
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert all(module.training for module in model.modules())


def test_bad_labels_are_refused() -> None:
    with pytest.raises(UserError, match="label"):
        evaluate(network("head"), X, Y + 1, IDS)
