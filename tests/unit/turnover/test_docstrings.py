"""Every public name has an example that runs, and is typed well enough for a strict type checker."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import turnover
from tests.support import ROOT

ERRORS = {"UserError"}  # raised, not called


@pytest.mark.parametrize("name", sorted(set(turnover.__all__) - ERRORS))
def test_the_example_of_the_docstring(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of = getattr(turnover, name)
    known: dict[str, Any] = {"torch": torch, "pd": pd, **{n: getattr(turnover, n) for n in turnover.__all__}}
    found = doctest.DocTestFinder(recurse=False).find(of, name, globs=known)
    examples = [example for test in found for example in test.examples]
    assert examples, f"{name} has no example in its docstring"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        report: list[str] = []
        for test in found:
            runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


USER = """
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from turnover import (
    InfluenceSummary, Readings, ScoreStore, average_over_training, calibrate, combine, influence, insert, localize,
    memorization, memorization_over_training, neighbourhood, pool_within_classes, read, remove, replace_batch_norm,
    sharpen, subnetwork, summarize, with_ids,
)


def use(dataset: TensorDataset, folder: Path) -> tuple[pd.DataFrame, Tensor, InfluenceSummary]:
    model: nn.Sequential = insert(replace_batch_norm(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))), after="head")
    loader = DataLoader(dataset, batch_size=8, shuffle=True)
    for (x, y), ids in with_ids(loader):
        with subnetwork(model, ids):
            nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    train: Readings = read(model, loader, folder=folder)
    again: Readings = Readings.load(folder)
    scores: pd.DataFrame = memorization(model, train)
    several: pd.DataFrame = memorization([model, model], loader)
    near: pd.DataFrame = neighbourhood(model, again)
    ranked: pd.DataFrame = sharpen(scores, near)
    both: pd.DataFrame = combine([scores, ranked])
    effect: Tensor = influence(model, train, dataset)
    raw: Tensor = influence(model, train.ids, torch.randn(3, 4), torch.tensor([0, 1, 0]), estimate="raw")
    summary: InfluenceSummary = summarize(model, train, dataset, top=3, store=ScoreStore(folder / "store"))
    null: pd.DataFrame = calibrate(scores, memorization(model, dataset, ids=range(100, 120), neighbours=False))
    plain: nn.Sequential = remove(model)
    near_scores: Tensor = localize(raw, plain, torch.randn(8, 4), torch.randn(3, 4))
    pooled: Tensor = pool_within_classes(near_scores, near_scores, train.labels)
    over: pd.DataFrame = average_over_training(memorization_over_training(model, [model.state_dict()], dataset))
    print(several, both, null, pooled, over, train.features[:3] if train.features is not None else None)
    return scores, effect, summary
"""


@pytest.mark.slow
def test_code_of_a_user_passes_a_strict_type_checker(tmp_path: Path) -> None:
    """As somebody else's code sees the package: by its types alone."""
    (tmp_path / "use.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--follow-imports", "silent", "use.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"MYPYPATH": str(ROOT / "src"), "PATH": ""}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "use.py").write_text(USER.replace("train: Readings = read", "train: int = read"))
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={"MYPYPATH": str(ROOT / "src"), "PATH": ""}
    )
    assert "Incompatible types in assignment" in done.stdout  # the types are seen
