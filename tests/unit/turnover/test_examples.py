"""The examples run, and the networks they train tell wrong labels from right ones.

Chance is an area under the ROC curve of .5; trained without `subnetwork`, the plain example comes to .54.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from tests.support import ROOT

EXAMPLES, BENCHMARKS = ROOT / "examples", ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(2)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in ("noisy_digits", "plain_pytorch", "lightning_module", "hf_trainer"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_benchmarks_find_what_they_import(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    assert callable(getattr(importlib.import_module(name), "write" if name == "influence_figure" else "main"))
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


def example(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_plain_pytorch(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("plain_pytorch").main() > 0.9
    assert "of the wrong labels" in capsys.readouterr().out


def test_lightning() -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed")
    assert example("lightning_module").main() > 0.9


def test_hugging_face_trainer() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    assert example("hf_trainer").main() > 0.85
