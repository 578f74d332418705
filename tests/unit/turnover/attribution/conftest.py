"""One thread: such small products gain nothing from a second one, and lose much where another process has it."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
