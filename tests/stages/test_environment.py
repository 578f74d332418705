"""What a stage settles before torch is imported, whatever its user's environment says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import ROOT

SCRIPT = """
import os, sys
import stages
assert "torch" not in sys.modules and "numpy" not in sys.modules
assert os.environ["OMP_DYNAMIC"] == "false"
import torch
torch.set_num_threads(2)
layers = torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, padding=1)
network = torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)
for _ in range(10):
    network(torch.randn(64, 1, 28, 28).to(memory_format=torch.channels_last)).sum().backward()
print("done")
"""


@pytest.mark.slow
def test_a_number_of_threads_that_changes_hangs_no_stage() -> None:
    """Without what `stages/__init__.py` sets, the backward convolution never ends where there are two cores."""
    env = {**os.environ, "OMP_DYNAMIC": "true"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "done\n", done.stderr
