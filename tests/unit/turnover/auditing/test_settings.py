"""What an audit chooses by itself, from the number of examples."""

from __future__ import annotations

import pytest

from turnover.auditing.settings import choose


@pytest.mark.parametrize(
    ("examples", "epochs", "batch_size"),
    [(500, 40, 32), (3_000, 14, 128), (10_000, 8, 128), (100_000, 8, 512), (200_000, 4, 512), (1_000_000, 3, 512)],
)
def test_many_examples_are_gone_through_less_often(examples: int, epochs: int, batch_size: int) -> None:
    found = choose(examples, [], {"device": "cpu"})
    assert (found.epochs, found.batch_size) == (epochs, batch_size)
    assert choose(examples, [], {"device": "cpu", "epochs": 5}).epochs == 5, "what is asked for is done"
