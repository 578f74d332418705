"""Scores on disk survive a kill, say what they are, and are never mistaken for others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.turnover.attribution.networks import CLASSES, examples, network, run_python
from turnover import insert
from turnover.attribution.head import HeadScorer
from turnover.attribution.influence import influence
from turnover.attribution.store import ScoreStore
from turnover.attribution.summary import summarize
from turnover.errors import UserError

IDS = torch.randperm(60, generator=torch.Generator().manual_seed(3)) * 7
LABELS = IDS % CLASSES
X, Y = examples(30)


def test_holds_every_score_in_the_order_given(tmp_path: Path) -> None:
    models = [network("head", seed=s) for s in (0, 1)]
    stored = summarize(models, IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"), memory=300_000)
    found = ScoreStore.load(tmp_path / "s")
    for model, scores in zip(models, found.scores, strict=True):
        torch.testing.assert_close(torch.from_numpy(np.array(scores)), influence(model, IDS, X, Y))
    assert found.train_ids.tolist() == IDS.tolist() != sorted(IDS.tolist())
    assert found.manifest["shape"] == [60, 30]
    assert not (tmp_path / "s.part").exists()
    plain = summarize(models, IDS, LABELS, X, Y)
    torch.testing.assert_close(stored.helpful, plain.helpful)
    torch.testing.assert_close(stored.total_error, plain.total_error)


def test_half_precision_summary_is_that_of_the_file(tmp_path: Path) -> None:
    model = network("head")
    first, again = (summarize(model, IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s", "float16")) for _ in range(2))
    scores = torch.from_numpy(ScoreStore.load(tmp_path / "s").scores[0].astype(np.float32))
    torch.testing.assert_close(scores, influence(model, IDS, X, Y), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first.helpful, scores.sort(0, descending=True).values.T, rtol=0, atol=0)
    assert torch.equal(first.total, again.total)


def test_finished_store_is_read_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("head")
    first = summarize(model, IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"))
    monkeypatch.setattr(HeadScorer, "tile", lambda *_: pytest.fail("computed again"))
    again = summarize(model, IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"), memory=1)
    assert torch.equal(first.helpful, again.helpful)


@pytest.mark.parametrize("change", ["weights", "seed", "ids", "targets", "measure", "dtype"])
def test_another_fingerprint_is_refused_with_both(tmp_path: Path, change: str) -> None:
    summarize(network("head"), IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"))
    model, ids, x, measure, dtype = network("head"), IDS, X, "loss", "float32"
    if change == "weights":
        torch.nn.init.zeros_(model[-1].bias)
    elif change == "seed":
        from turnover.masking.layer import masked_layers

        masked_layers(model)[0].seed = 5
    elif change == "ids":
        ids = IDS.flip(0)
    elif change == "targets":
        x = X + 1
    elif change == "measure":
        measure = "margin"
    else:
        dtype = "float16"
    with pytest.raises(UserError, match=r"holds influence scores with \w+ \w+, but this run has \w+ \w+:") as error:
        summarize(model, ids, LABELS, x, Y, measure=measure, store=ScoreStore(tmp_path / "s", dtype))  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["dtype" if change == "dtype" else "fingerprint"] in str(error.value)


def test_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished influence scores"):
        ScoreStore.load(tmp_path)


def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    """SIGKILL at random moments; `killed.py` prints how many tiles each kill left, and whether the end was the same."""
    report = json.loads(run_python(Path(__file__).with_name("killed.py"), tmp_path))
    assert len(report["left"]) == 20
    assert sum(0 < left < report["tiles"] for left in report["left"]) >= 8  # most kills did hit half-done work
    assert len(set(report["left"])) >= 8
    assert report["worst"] <= 1e-6


@pytest.mark.parametrize("change", [{"after": ["4"]}, {"keep": 0.51}, {"seed": 1}, {"after": ["1", "4"]}])
def test_masks_elsewhere_are_another_fingerprint(tmp_path: Path, change: dict[str, Any]) -> None:
    """The same weights, and as many units behind either ReLU: only the masks differ."""

    def masked(after: list[str], **settings: Any) -> torch.nn.Module:
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Conv2d(4, 4, 3)]
        rest = [torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, CLASSES)]
        return insert(torch.nn.Sequential(*layers, *rest), after, **settings)

    first = summarize(masked(["1"]), IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"))
    again = summarize(torch.compile(masked(["1"])), IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"))  # type: ignore[arg-type]
    assert torch.equal(first.total, again.total)  # a compiled network is the same one
    with pytest.raises(UserError, match="holds influence scores with fingerprint"):
        summarize(masked(**{"after": ["1"], **change}), IDS, LABELS, X, Y, store=ScoreStore(tmp_path / "s"))
