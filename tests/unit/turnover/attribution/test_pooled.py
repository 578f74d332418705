"""Pooled influence in tiles is what `pool_within_classes` makes of whole matrices, whatever the tiles."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.unit.turnover.attribution.networks import CLASSES, brute_force, examples, network
from turnover import ScoreStore, influence, localize, pool_within_classes, summarize
from turnover.attribution import tiles
from turnover.attribution.blends import Pooled
from turnover.attribution.head import HeadScorer
from turnover.attribution.reductions import Totals

X_TRAIN, _ = examples(150, seed=7)
IDS = torch.randperm(150, generator=torch.Generator().manual_seed(3)) + 1000
LABELS = IDS % (CLASSES - 1)  # a class without training examples
X, Y = examples(45)


def recipe(models: list[nn.Module]) -> tuple[Tensor, Tensor]:
    """Pooled and raw scores of each network from whole matrices, pair by pair through the sub-networks."""
    pooled, raws = [], []
    for model in models:
        raw = brute_force(model, IDS, X, Y)
        factor = localize(torch.ones_like(raw), model, X_TRAIN, X)
        pooled.append(pool_within_classes(raw * factor, factor, LABELS))
        raws.append(raw)
    return torch.stack(pooled), torch.stack(raws)


def close(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.fixture(params=["held", "twice", "narrow"])
def tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Memory for whole matrices; for no block of targets; for blocks of a few targets. Tiles are small either way."""
    monkeypatch.setattr(HeadScorer, "block", lambda self, targets, memory: (16, min(targets, 11)))
    if request.param == "twice":
        monkeypatch.setattr(Pooled, "pair_bytes", 1 << 40)
        return 1 << 20
    monkeypatch.setattr(tiles, "_NARROW", 4)
    return 1 << 30 if request.param == "held" else 150 * 8 * 2 * 7 * 4


@pytest.mark.parametrize("kinds", [["head"], ["all"], ["head", "head", "head"], ["head", "mlp"]])
def test_influence_equals_the_recipe(kinds: list[str], tiling: int) -> None:
    models = [network(kind, seed=seed) for seed, kind in enumerate(kinds)]
    expected, raw = recipe(models)
    found = influence(models, (X_TRAIN, LABELS, IDS), (X, Y), estimate="pooled", memory=tiling)
    close(found, expected.mean(0))
    assert torch.corrcoef(torch.stack([found.flatten(), raw.mean(0).flatten()]))[0, 1] < 0.95  # pooling does something


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("stored", [False, True])
def test_summaries_equal_the_recipe(
    seeds: int, parts: bool, stored: bool, tiling: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where sums by class are held for some training examples at a time, so that there are several walks."""
    if parts:
        monkeypatch.setattr(Totals, "row_bytes", lambda *_: tiling // 260)  # for 65 training examples: four tiles
    models = [network("head", seed=seed) for seed in range(seeds)]
    expected, raws = recipe(models)
    store = ScoreStore(tmp_path / "s") if stored else None
    settings: dict[str, Any] = {"top": 6, "top_targets": 3, "memory": tiling, "store": store, "estimate": "pooled"}
    found = summarize(models, (X_TRAIN, LABELS, IDS), (X, Y), **settings)
    mean = expected.mean(0)
    values, rows = mean.topk(6, dim=0)
    close(found.helpful, values.T)
    assert (found.helpful_ids == IDS[rows.T]).float().mean() > 0.99
    close(found.harmful, -(-mean).topk(6, dim=0).values.T)
    close(found.helped, mean.topk(3, dim=1).values)
    close(found.total, mean.sum(1))
    close(found.total_raw, raws.mean(0).sum(1))
    by_class = torch.stack([mean[:, c == Y].sum(1) for c in range(CLASSES)], 1)
    close(found.total_by_class, by_class)
    close(found.total_same_class, by_class.gather(1, LABELS.unsqueeze(1)).squeeze(1))
    if seeds > 1:
        close(found.total_error, expected.sum(2).std(0) / seeds**0.5)
        close(found.helpful_error, (expected.std(0) / seeds**0.5).gather(0, rows).T)
    if stored:
        for model, scores in enumerate(ScoreStore.load(tmp_path / "s").scores):
            close(torch.from_numpy(np.array(scores)), raws[model])


@pytest.mark.parametrize(("bytes_a_pair", "times"), [(8, 1), (1 << 40, 2)])
def test_tiles_that_fit_are_computed_once(bytes_a_pair: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pooled, "pair_bytes", bytes_a_pair)
    seen, tile = [], HeadScorer.tile

    def counted(self: HeadScorer, rows: slice, prepared: Any) -> Tensor:
        found = tile(self, rows, prepared)
        seen.append(found.numel())
        return found

    monkeypatch.setattr(HeadScorer, "tile", counted)
    influence(network("head"), (X_TRAIN, LABELS, IDS), (X, Y), estimate="pooled")
    assert sum(seen) == times * 150 * 45


def test_a_store_serves_every_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = network("head"), (X_TRAIN, LABELS, IDS)
    summarize(model, data, X, Y, estimate="raw", store=ScoreStore(tmp_path / "s"))
    plain = asdict(summarize(model, data, X, Y))
    monkeypatch.setattr(HeadScorer, "tile", lambda *_: pytest.fail("computed again"))
    for memory in (1 << 30, 40_000):
        found = asdict(summarize(model, data, X, Y, store=ScoreStore(tmp_path / "s"), memory=memory))
        for name in ("helpful", "harmful", "helped", "total", "total_by_class", "total_raw"):
            close(found[name], plain[name])
