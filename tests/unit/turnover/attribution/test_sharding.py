"""Two processes find together what one finds alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from tests.unit.turnover.attribution.networks import CLASSES, examples, network, run_python
from turnover.attribution.arguments import Estimate
from turnover.attribution.influence import influence
from turnover.attribution.store import ScoreStore
from turnover.attribution.summary import summarize


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left: starting them takes longer than all else."""
    path = tmp_path_factory.mktemp("two")
    processes = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_python(*processes, Path(__file__).with_name("worker.py"), path)
    return path


@pytest.mark.parametrize("case", ["plain", "stored", "pooled"])
def test_two_processes_equal_one(folder: Path, case: str) -> None:
    models, ids, (x, y) = [network("head", seed=s) for s in (0, 1)], torch.arange(50) * 3, examples(41)
    near = examples(50, seed=7)[0]
    estimate: Estimate = "pooled" if case == "pooled" else "localized"
    expected = asdict(
        summarize(models, ids, ids % CLASSES, x, y, top=7, top_targets=5, localized=near, estimate=estimate)
    )
    for rank in (0, 1):
        found = torch.load(folder / f"{case}-{rank}.pt", weights_only=True)
        for name, value in expected.items():
            if name == "train_names":
                continue
            scale = float(value.abs().max())
            assert scale > 0
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-6 * scale, msg=name)
    if case == "stored":
        scores = ScoreStore.load(folder / "store").scores
        torch.testing.assert_close(torch.from_numpy(scores[1].copy()), influence(models[1], ids, x, y))
