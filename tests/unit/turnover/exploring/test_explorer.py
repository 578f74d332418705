"""What does not fit together is refused in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit.turnover.exploring.made import TARGETS, TRAIN, make_explorer
from turnover.errors import UserError
from turnover.exploring.explorer import Explorer

WHOLE = make_explorer()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": WHOLE.training.drop(columns="given")}, "training has no column 'given'; it has id, original"),
        ({"training": WHOLE.training.assign(id=7)}, "training holds the id 7 twice"),
        ({"training": WHOLE.training.assign(given=4)}, "'given' of training must hold places in the list of 4 classes"),
        ({"training": WHOLE.training.assign(given=0.0)}, "integers from 0 to 3"),
        ({"targets": WHOLE.targets.assign(predicted=-1)}, "column 'predicted' of targets"),  # type: ignore[union-attr]
        ({"targets": None, "target_images": None}, "there are pairs, but no targets"),
        ({"pairs": pd.DataFrame({"target": [0], "example": [5], "influence": [0.1]})}, "pairs names the example 5"),
        ({"training_images": np.zeros((3, 1, 4, 4), np.uint8)}, "training_images holds 3 images, but its table 150"),
        ({"target_images": np.zeros((TARGETS, 4, 4), np.uint8)}, "target_images must be uint8 [n, channels"),
        ({"target_images": np.zeros((TARGETS, 1, 4, 4))}, "got float64"),
        ({"epochs": (1, 2)}, "have the shape (150, 5), but there are 150 training examples and 2 epochs"),
        ({"curves": {"whole": np.zeros((TRAIN, 5))}}, "curves has 'whole'; known are exposed, flipped, full"),
        ({"links": {"here": "javascript:alert(1)"}}, "the link 'here' leads to 'javascript:alert(1)'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as error:
        replace(WHOLE, **changes)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_little_is_enough() -> None:
    training = pd.DataFrame({"id": ["a/1.png", "b/2.png"], "given": [0, 1], "original": [-1, 1]})
    assert Explorer("mine", ["a", "b"], training).targets is None
