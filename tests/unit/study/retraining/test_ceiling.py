"""The ceiling of the LDS against outputs whose signal and noise are known."""

from __future__ import annotations

import numpy as np
import pytest

from study.retraining.ceiling import lds_ceiling
from study.retraining.lds import correlations, ranks
from turnover.errors import UserError


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_the_oracle_is_what_perfect_foresight_gets(noise: float) -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(60, 80))
    outputs = signal + noise * rng.normal(size=(5, 60, 80))
    found = lds_ceiling(outputs)
    foresight = np.mean([correlations(ranks(signal), ranks(of)).mean() for of in outputs])
    assert found.oracle == pytest.approx(foresight, abs=0.03)
    assert found.low < found.oracle < found.high
    assert found.single < found.others < found.oracle


def test_networks_that_agree_wholly_leave_no_room() -> None:
    outputs = np.repeat(np.random.default_rng(0).normal(size=(1, 8, 5)), 3, axis=0)
    found = lds_ceiling(outputs)
    assert found.single == pytest.approx(1.0)
    assert found.oracle == pytest.approx(1.0)


def test_noise_alone_has_no_ceiling_to_speak_of() -> None:
    assert lds_ceiling(np.random.default_rng(0).normal(size=(5, 40, 100))).single == pytest.approx(0.0, abs=0.03)


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(UserError, match="at least 2 on 4"):
        lds_ceiling(np.zeros((1, 40, 3)))
