"""Networks of torchvision, timm and transformers work, or are refused by what they are, as docs/models.md says.

`tried` holds scores against masks multiplied by hand, also where it follows a refusal's advice.
"""

from __future__ import annotations

import re

import pytest
import torch

from tests.unit.turnover.many_models.__main__ import DOCUMENT
from tests.unit.turnover.many_models.networks import MODELS, Model
from tests.unit.turnover.many_models.trying import tried


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=[f"{model.library}-{model.name}" for model in MODELS])
def test_works_or_is_refused(model: Model) -> None:
    torch.set_num_threads(1)
    outcome = tried(model)
    if model.refused is None:
        assert outcome.refusal is None and outcome.units
    else:
        assert outcome.refusal is not None and re.search(model.refused, outcome.refusal)
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if f"| {model.library} | {model.name} |" in line]
    assert (outcome.refusal or f"`{outcome.masked}`") in row, "run python -m tests.unit.turnover.many_models"
