"""Instance masks against a slow oracle, golden values, and the theory of random subsets."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from turnover import InstanceMasks
from turnover.masking import masks
from turnover.masking.ids import example_ids

GOLDEN = Path(__file__).with_name("golden_masks.txt")

# units, keep, seed, layer, ids
CASES = [
    (8, 0.5, 0, 0, [0, 1, 2, 3]),
    (13, 0.3, 7, 2, [0, 5, -1, -(2**40) - 3]),
    (64, 0.9, -1, 1, [10**6, 2**31, 2**32, 2**32 + 1]),
    (100, 0.7, 2**40 + 9, 30, [2**63 - 1, -(2**63)]),
]
B2SUMS = {"a": "40f89e395b66422f", "Zoë": "789fb70695ef899a"}
any_id = st.one_of(st.integers(0, 10**6), st.integers(-(2**63), 2**63 - 1))


def mix(x: int) -> int:
    """The published 32-bit hash, on Python integers."""
    x ^= x >> 16
    x = x * 0x21F0AAAD % 2**32
    x ^= x >> 15
    x = x * 0x735A2D97 % 2**32
    return x ^ x >> 15


def oracle(units: int, keep: float, seed: int, layer: int, example: int) -> list[bool]:
    """One mask, unit by unit."""
    word = 2**32
    key_a = mix(mix(mix(seed % word ^ 0x243F6A88) ^ (seed >> 32) % word) ^ mix(layer ^ 0x85A308D3))
    key_b = mix(key_a ^ 0x13198A2E)
    row_a, row_b = (mix(mix(example % word ^ key) ^ (example >> 32) % word) for key in (key_a, key_b))
    hashed = [mix(mix((row_a + unit * 0x9E3779B9) % word) ^ row_b) for unit in range(units)]
    # Hashes are compared as signed numbers.
    order = sorted(range(units), key=lambda unit: (hashed[unit] + 2**31) % word)
    kept = set(order[: round(keep * units)])
    return [unit in kept for unit in range(units)]


def digits(mask: Tensor) -> str:
    return "".join("01"[bit] for bit in mask.tolist())


def golden() -> dict[tuple[str, ...], str]:
    lines = (line.split() for line in GOLDEN.read_text().splitlines() if not line.startswith("#"))
    return {tuple(words[:-1]): words[-1] for words in lines}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_golden_values(case: tuple[int, float, int, int, list[int]]) -> None:
    units, keep, seed, layer, ids = case
    found = InstanceMasks(units, keep, seed=seed, layer=layer)(torch.tensor(ids))
    for example, mask in zip(ids, found, strict=True):
        expected = golden()[tuple(map(str, (units, keep, seed, layer, example)))]
        assert digits(mask) == expected
        assert oracle(units, keep, seed, layer, example) == mask.tolist()


@given(st.integers(2, 70), st.floats(0.05, 0.95), st.integers(-(2**63), 2**63 - 1), st.integers(0, 99), any_id)
@settings(max_examples=150, deadline=None)
def test_any_mask_agrees_with_the_oracle(units: int, keep: float, seed: int, layer: int, example: int) -> None:
    if not 0 < round(keep * units) < units:
        with pytest.raises(ValueError, match=r"choose keep so that between 1 and"):
            InstanceMasks(units, keep)
        return
    found = InstanceMasks(units, keep, seed=seed, layer=layer)(torch.tensor([example]))
    assert found[0].tolist() == oracle(units, keep, seed, layer, example)


@given(st.integers(2, 700), st.floats(0.01, 0.99), st.lists(any_id, max_size=20))
@settings(max_examples=100, deadline=None)
def test_kept_count_is_exact(units: int, keep: float, ids: list[int]) -> None:
    if not 0 < round(keep * units) < units:
        return
    layer = InstanceMasks(units, keep)
    exposed = layer(torch.tensor(ids, dtype=torch.int64))
    assert exposed.shape == (len(ids), units)
    assert exposed.dtype == torch.bool
    assert (exposed.sum(1) == round(keep * units)).all()
    assert torch.equal(layer(torch.tensor(ids, dtype=torch.int64), flipped=True), ~exposed)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40), st.randoms())
@settings(max_examples=50, deadline=None)
def test_batch_order_and_type_of_the_ids_do_not_matter(ids: list[int], random: object) -> None:
    layer = InstanceMasks(33, 0.4, seed=3)
    together = layer(torch.tensor(ids))
    assert torch.equal(layer(torch.tensor(ids, dtype=torch.int32)), together)
    assert torch.equal(layer(torch.tensor(ids).flip(0)), together.flip(0))
    for row, example in enumerate(ids):
        assert torch.equal(layer(torch.tensor([example]))[0], together[row])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_small_integer_types(dtype: torch.dtype) -> None:
    ids = torch.arange(100)
    assert torch.equal(InstanceMasks(20)(ids.to(dtype)), InstanceMasks(20)(ids))


@given(st.integers(2, 80), st.lists(any_id, max_size=12))
@settings(max_examples=60, deadline=None)
def test_packing_round_trip(units: int, ids: list[int]) -> None:
    layer = InstanceMasks(units, 0.5)
    masks_ = layer(torch.tensor(ids, dtype=torch.int64))
    packed = layer.packed(torch.tensor(ids, dtype=torch.int64))
    assert packed.shape == (len(ids), math.ceil(units / 8))
    assert packed.dtype == torch.uint8
    assert torch.equal(layer.unpack(packed), masks_)
    assert torch.equal(layer.unpack(packed, torch.float32), masks_.float())
    for row in range(len(ids)):
        for unit in range(units):
            assert (packed[row, unit // 8].item() >> unit % 8 & 1) == masks_[row, unit].item()


@pytest.mark.parametrize("rows", [1, 4, 5, 6, 9, 10, 11])
def test_block_boundaries_do_not_show(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, ids = InstanceMasks(21, 0.5), torch.arange(rows)
    whole, packed = layer(ids), layer.packed(ids)
    monkeypatch.setattr(masks, "_BLOCK_ELEMENTS", 5 * 21 + 20)  # five rows at once
    seen = []
    original = InstanceMasks._block
    monkeypatch.setattr(InstanceMasks, "_block", lambda self, ids: seen.append(len(ids)) or original(self, ids))
    assert torch.equal(layer(ids), whole)
    assert torch.equal(layer.packed(ids), packed)
    assert max(seen) <= 5
    assert sum(seen) == 2 * rows
    monkeypatch.setattr(masks, "_BLOCK_ELEMENTS", 1)  # a row wider than a block is a block of its own
    assert torch.equal(layer(ids), whole)


class TestCache:
    def test_remembered_masks_are_the_same(self) -> None:
        plain, cached = InstanceMasks(50, 0.3, seed=1), InstanceMasks(50, 0.3, seed=1, cache_bytes=7 * 5000)
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):  # up to 6,000, so that some are above what is remembered
            ids = torch.randint(-20, 6000, (64,), generator=generator)
            within = ids.clamp(0, 4999)
            for batch in (ids, within, within.int()):
                assert torch.equal(cached(batch), plain(batch))
                assert torch.equal(cached(batch, flipped=True), plain(batch, flipped=True))
        assert cached(torch.empty(0, dtype=torch.int64)).shape == (0, 50)

    def test_nothing_is_made_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cached, made = InstanceMasks(16, cache_bytes=2000), []
        original = InstanceMasks._block
        monkeypatch.setattr(InstanceMasks, "_block", lambda self, ids: made.extend(ids.tolist()) or original(self, ids))
        for ids in ([1, 2], [2, 3], [3, 1, 999], [999]):
            cached(torch.tensor(ids))
        assert made == [1, 2, 3, 999]

    def test_memory_is_bounded(self) -> None:
        cached = InstanceMasks(80, cache_bytes=1000)
        for ids in ([0], [99], [100], [2**40]):
            cached(torch.tensor(ids))
        packed, known = cached._cache._store
        assert packed.numel() <= 1000
        assert len(known) == 100

    def test_threads_may_race(self) -> None:
        cached, plain = InstanceMasks(40, cache_bytes=1 << 20), InstanceMasks(40)
        wrong: list[int] = []

        def work(seed: int) -> None:
            generator = torch.Generator().manual_seed(seed)
            for step in range(60):
                ids = torch.randint(0, 100 + 50 * step, (32,), generator=generator)
                if not torch.equal(cached(ids), plain(ids)):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


class TestTheory:
    """Masks should look like uniformly random subsets of exactly k of d units.

    Every test computes one p-value and fails below 1e-6; the masks being fixed, a change of the hash would raise a
    false alarm with that probability.
    """

    ALARM = 1e-6

    @pytest.mark.parametrize(("units", "keep"), [(64, 0.5), (37, 0.3), (20, 0.9)])
    @pytest.mark.parametrize("ids", ["counting", "spread"])
    def test_every_unit_is_kept_equally_often(self, units: int, keep: float, ids: str) -> None:
        n = 20_000
        examples = torch.arange(n) if ids == "counting" else torch.arange(n) * 2**33 - 5
        layer = InstanceMasks(units, keep)
        counts = layer(examples).sum(0).double().numpy()
        share = layer.kept / units
        # For exact-k subsets the units are negatively correlated: var = n p (1-p), on d - 1 degrees of freedom.
        statistic = ((counts - n * share) ** 2).sum() / (n * share * (1 - share)) * (units - 1) / units
        p = stats.chi2(units - 1).sf(statistic)
        assert self.ALARM < p < 1 - self.ALARM

    @pytest.mark.parametrize("pairs", ["neighbours", "ids apart by 2**32", "seeds", "layers"])
    @pytest.mark.parametrize(("units", "keep"), [(64, 0.5), (51, 0.3)])
    def test_overlaps_are_hypergeometric(self, pairs: str, units: int, keep: float) -> None:
        n = 20_000
        ids = torch.arange(n)
        first = InstanceMasks(units, keep)(2 * ids)
        second = {
            "neighbours": lambda: InstanceMasks(units, keep)(2 * ids + 1),
            "ids apart by 2**32": lambda: InstanceMasks(units, keep)(2 * ids + 2**32),
            "seeds": lambda: InstanceMasks(units, keep, seed=1)(2 * ids),
            "layers": lambda: InstanceMasks(units, keep, layer=1)(2 * ids),
        }[pairs]()
        kept = round(keep * units)
        theory = stats.hypergeom(units, kept, kept)
        overlap = (first & second).sum(1)
        observed = torch.bincount(overlap, minlength=kept + 1).double().numpy()
        expected = n * theory.pmf(range(kept + 1))
        common = expected >= 10
        observed = [*observed[common], observed[~common].sum()]
        expected = [*expected[common], expected[~common].sum()]
        assert stats.chisquare(observed, expected).pvalue > self.ALARM

    def test_the_tests_can_fail(self) -> None:
        """Independent coin flips, in place of exactly k of d, are told apart."""
        flips = torch.rand(2, 20_000, 64, generator=torch.Generator().manual_seed(0)) < 0.5
        overlap = (flips[0] & flips[1]).sum(1).double()
        theory = stats.hypergeom(64, 32, 32)
        z = (overlap.var().item() / theory.var() - 1) / math.sqrt(2 / 20_000)
        assert stats.norm.sf(z) < self.ALARM

    def test_pairs_of_units_are_kept_together_as_often_as_by_chance(self) -> None:
        n, units = 20_000, 40
        chosen = InstanceMasks(units)(torch.arange(n)).double()
        together = (chosen.T @ chosen)[~torch.eye(units, dtype=torch.bool)]
        share = 0.5 * 19 / 39
        z = (together - n * share) / math.sqrt(n * share * (1 - share))
        # The largest of 780 different pairs.
        assert 780 * 2 * stats.norm.sf(z.abs().max().item()) > self.ALARM

    def test_masks_of_many_ids_all_differ(self) -> None:
        packed = InstanceMasks(128).packed(torch.arange(-20_000, 20_000))
        assert len(packed.unique(dim=0)) == 40_000


def test_the_same_bits_when_compiled() -> None:
    layer, ids = InstanceMasks(30, 0.4, seed=5), torch.arange(-3, 40)
    compiled = torch.compile(lambda ids: layer(ids), fullgraph=True)
    assert torch.equal(compiled(ids), layer(ids))
    assert torch.equal(compiled(ids + 2**35), layer(ids + 2**35))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_same_bits_on_the_gpu() -> None:
    for units, keep, seed, layer, ids in CASES:
        own = InstanceMasks(units, keep, seed=seed, layer=layer, cache_bytes=1 << 20)
        many = torch.tensor([*ids, *range(5000)])
        assert torch.equal(own(many.cuda()).cpu(), own(many))
        assert torch.equal(own.packed(many.cuda()).cpu(), own.packed(many))


def test_the_global_random_number_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    InstanceMasks(16)(torch.arange(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 1}, "units=1: a masked layer needs at least 2 units"),
        ({"units": 8, "keep": 0.0}, "keep=0.0: the kept fraction must lie strictly between 0 and 1"),
        ({"units": 8, "keep": 1.0}, "keep=1.0: the kept fraction must lie strictly between 0 and 1"),
        ({"units": 8, "keep": math.nan}, "the kept fraction must lie strictly between 0 and 1"),
        ({"units": 4, "keep": 0.05}, "keep=0.05 of 4 units keeps 0: choose keep so that between 1 and 3 units"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceMasks(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (torch.tensor([0.5]), TypeError, "ids must be integers or names, got torch.float32"),
        (torch.tensor([True]), TypeError, "ids must be integers or names, got torch.bool"),
        ([True, False], TypeError, "ids must be integers or names, got bool"),
        ([1.0], TypeError, "ids must be integers or names, got float"),
        (np.array([1.0]), TypeError, "ids must be integers or names, got float64"),
        ([1, "one"], TypeError, "ids must be integers or names, got int, str"),
        (["one", None], TypeError, "ids must be integers or names, got NoneType, str"),
        (None, TypeError, "ids must be integers or names, got NoneType"),
        ([[1, 2], [3]], TypeError, "ids must be integers or names, got list"),
        ([2**64], ValueError, "ids must fit into 64 bits"),
        ("one", ValueError, r"one id a row of the batch, .* got shape \(\)"),
        (torch.tensor(3), ValueError, r"one id a row of the batch, .* got shape \(\)"),
        (torch.zeros(2, 2, dtype=torch.int64), ValueError, r"one id an example; got shape \(2, 2\)"),
    ],
)
def test_wrong_ids_are_refused(ids: Any, error: type[Exception], message: str) -> None:
    for call in (InstanceMasks(8), InstanceMasks(8).packed):
        with pytest.raises(error, match=message):
            call(ids)


class TestExampleIds:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64])
    def test_integers_of_any_type_stay_what_they_are(self, dtype: torch.dtype) -> None:
        expected = torch.tensor([3, 0, 200])
        for ids in (expected.to(dtype), expected.to(dtype).numpy(), expected.to(dtype).tolist()):
            found = example_ids(ids)
            assert found.dtype == torch.int64
            assert torch.equal(found, expected)
        assert torch.equal(InstanceMasks(20)(expected.to(dtype)), InstanceMasks(20)(expected))

    def test_whatever_holds_integers(self) -> None:
        expected = torch.tensor([7, 5, -6])
        arrays = (np.array([7, 5, -6]), np.array([-6, 5, 7])[::-1], np.array([7, 5, -6], ">i4"))
        columns = (pd.Series([7, 5, -6]), pd.Index([7, 5, -6]), pd.Series([7, 5, -6], dtype="Int64"))
        for ids in (*arrays, *columns, [7, 5, -6], (7, 5, -6), list(expected), [np.int8(7), 5, -6], expected):
            assert torch.equal(example_ids(ids), expected)
        assert example_ids([]).shape == (0,)
        assert example_ids(range(3)).tolist() == [0, 1, 2]

    def test_the_upper_half_of_64_bits_keeps_its_bits(self) -> None:
        for ids in ([2**64 - 1, 2**63], np.array([2**64 - 1, 2**63], np.uint64)):
            assert example_ids(ids).tolist() == [-1, -(2**63)]
        assert example_ids(torch.tensor([2**64 - 1], dtype=torch.uint64)).tolist() == [-1]

    def test_names_are_hashed_alike_everywhere(self) -> None:
        # Computed once by coreutils: printf a | b2sum -l 64, as a little-endian number.
        expected = [int.from_bytes(bytes.fromhex(digest), "little", signed=True) for digest in B2SUMS.values()]
        for names in (list(B2SUMS), tuple(B2SUMS), np.array(list(B2SUMS)), pd.Series(list(B2SUMS))):
            assert example_ids(names).tolist() == expected
        assert torch.equal(InstanceMasks(16)(list(B2SUMS)), InstanceMasks(16)(torch.tensor(expected)))

    def test_several_ids_a_row(self) -> None:
        assert torch.equal(example_ids([[1, 2], [3, 4], [5, 6]]), torch.arange(1, 7).view(3, 2))
        names = example_ids([["a", "b"], ["b", "a"]])
        assert names.shape == (2, 2)
        assert torch.equal(names, names.flip(1).flip(0))
