"""Two processes of `torchrun` train as one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.turnover.attribution.networks import run_python
from tests.unit.turnover.training.torchrun_worker import run

# One batch an epoch, so that the losses of 50 epochs are those of 50 steps; 37 rows do not divide by two.
STEPS = {"examples": 37, "batch_size": 64, "epochs": 50, "after": "all"}
# Batches of 16, 16 and 1: one process has nothing to do in the last.
RAGGED = {"examples": 33, "batch_size": 16, "epochs": 5, "after": "head"}


CASES: list[dict[str, Any]] = [
    {**STEPS, "optimizer": "sgd"},
    {**STEPS, "optimizer": "adamw"},
    {**RAGGED, "optimizer": "sgd"},
]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    processes = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_python(*processes, Path(__file__).with_name("torchrun_worker.py"), tmp_path, json.dumps(CASES))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for number, settings in enumerate(CASES):
        expected = run(settings)
        for rank in ranks:
            found = rank[number]
            assert found["losses"] == pytest.approx(expected["losses"], rel=1e-5), settings
            assert found["accuracies"] == expected["accuracies"]
            assert found["resumed"] == found["losses"]
            torch.testing.assert_close(found["dynamics"], expected["dynamics"], rtol=1e-4, atol=1e-5)
        assert torch.equal(ranks[0][number]["dynamics"], ranks[1][number]["dynamics"])
        assert expected["losses"][-1] < expected["losses"][0]
