"""A scenario of a few real digits, an eighth of whose labels are wrong, on which every way of judging is tried."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from study.data.scenarios.scenario import SPLITS, Scenario


def digits_scenario(train: int, placebo: int, heldout: int) -> Scenario:
    """The first so many digits; every eighth of those that are not held out has the label of three further."""
    data, count = load_digits(), train + placebo + heldout
    splits = np.repeat(SPLITS, [train, placebo, heldout])
    original = data.target[:count].astype(np.int64)
    wrong = (np.arange(count) % 8 == 0) & (splits != "heldout")
    given = np.where(wrong, (original + 3) % 10, original)
    examples = pd.DataFrame(
        {"id": np.arange(count), "split": splits, "given": given, "original": original, "is_random": wrong}
    )
    images = (data.images[:count, None] * 15).astype(np.uint8)
    return Scenario("validation", images, examples, tuple("0123456789"), "digits")
