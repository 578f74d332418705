"""The compiled difference is the uncompiled one, and a machine without a compiler only loses time."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from turnover.attribution import fused
from turnover.attribution.fused import Base, Difference, base_of


@pytest.fixture(scope="module")
def tile() -> tuple[Tensor, Base]:
    generator = torch.Generator().manual_seed(0)
    product = torch.randn(37, 4, 21, generator=generator)
    return product, base_of(torch.randn(4, 21, generator=generator) * 3, torch.randn(4, 21, generator=generator) * 3)


def compiled(plus: float, minus: float, product: Tensor, shared: Base) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        difference = Difference("loss", plus, minus, fused=True)
        found = difference(product, shared)
    if not difference.fused:
        pytest.skip("no compiler here")
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scales", [(2.0, 2.0), (1 / 0.7, 1 / 0.3)])
def test_compiled_equals_uncompiled(scales: tuple[float, float], dtype: torch.dtype, tile: tuple[Tensor, Base]) -> None:
    product = tile[0].to(dtype)
    expected = Difference("loss", *scales, fused=False)(product, tile[1])
    assert expected.std() > 0.5
    torch.testing.assert_close(compiled(*scales, product, tile[1]), expected, rtol=1e-5, atol=1e-5)


def test_many_classes_are_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    classes = fused._UNROLLED + 6
    product, logits = torch.randn(9, classes, 21, generator=generator), torch.randn(classes, 21, generator=generator)
    expected = Difference("loss", 2.0, 2.0, fused=False)(product, base_of(logits, logits))
    assert expected.std() > 0.1
    found = compiled(2.0, 2.0, product, base_of(logits, logits))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_overflow_takes_the_long_way(tile: tuple[Tensor, Base]) -> None:
    product = tile[0] * 200
    found = compiled(2.0, 2.0, product, tile[1])
    quick = fused._loss_kernel(True)(product, tile[1].exp_exposed, tile[1].exp_flipped, 2.0, 2.0)
    assert not quick.isfinite().all()  # or the long way was not taken
    torch.testing.assert_close(found, Difference("loss", 2.0, 2.0, fused=False)(product, tile[1]))


def test_a_margin_is_never_compiled(tile: tuple[Tensor, Base]) -> None:
    difference = Difference("margin", 2.0, 2.0, fused=True)
    assert not difference.fused
    with_i, without_i = tile[1].exposed + 2.0 * tile[0], tile[1].flipped - 2.0 * tile[0]
    torch.testing.assert_close(difference(*tile), without_i.amax(1) - with_i.amax(1))


NO_COMPILER = """
import warnings
import torch
from turnover.attribution.fused import Difference, base_of

generator = torch.Generator().manual_seed(0)
product = torch.randn(37, 4, 21, generator=generator)
shared = base_of(torch.randn(4, 21, generator=generator), torch.randn(4, 21, generator=generator))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = Difference("loss", 2.0, 2.0, fused=True)(product, shared)
assert any(w.category is RuntimeWarning and "uncompiled" in str(w.message) for w in caught), [str(w) for w in caught]
assert torch.equal(found, Difference("loss", 2.0, 2.0, fused=False)(product, shared))
"""


def test_no_compiler_warns_and_gives_the_same(tmp_path: Path) -> None:
    """In a process of its own: torch remembers which compiler it found."""
    missing = str(tmp_path / "no-such-compiler")
    env = {**os.environ, "CXX": missing, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PATH": str(tmp_path)}
    env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of compiling processes to start
    done = subprocess.run([sys.executable, "-c", NO_COMPILER], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
