"""What `from turnover import ...` gives."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

import turnover
from tests.support import ROOT


def test_every_public_name_is_there() -> None:
    for name in turnover.__all__:
        assert callable(getattr(turnover, name)), name
        assert getattr(turnover, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'turnover' has no attribute 'nothing'"):
        turnover.nothing  # noqa: B018


def test_type_checkers_see_the_table() -> None:
    """What is imported for them is what is imported on first use."""
    tree = ast.parse(Path(turnover.__file__).read_text())
    lines = [
        line for line in ast.walk(tree) if isinstance(line, ast.ImportFrom) and str(line.module).startswith("turn")
    ]
    seen = {name.name: str(line.module).removeprefix("turnover.") for line in lines for name in line.names}
    assert seen == turnover._HOMES
    assert sorted(turnover.__all__) == sorted(turnover._HOMES)


def test_functions_and_rooms_do_not_share_a_name() -> None:
    """Or else `import turnover.attribution.influence` would put a module where a function was."""
    assert not {room.name for room in Path(turnover.__file__).parent.iterdir()} & set(turnover.__all__)
    script = "import turnover.attribution.influence, turnover.scoring.memorization\nfrom turnover import influence\n"
    script += "from turnover import memorization, neighbourhood, train\n"
    script += "print(*{type(f).__name__ for f in (influence, memorization, neighbourhood, train)})"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "function\n"


# Of each the rooms that it may use.
ROOMS = {
    "masking": set[str](),
    "batches": {"masking"},
    "training": {"masking", "batches"},
    "reading": {"masking", "batches", "training"},
    "scoring": {"masking", "batches", "reading"},
    "attribution": {"masking", "batches", "reading"},
    "collecting": set[str](),
    "serving": {"batches", "collecting"},
    "auditing": {
        "masking",
        "batches",
        "training",
        "reading",
        "scoring",
        "attribution",
        "collecting",
        "exploring",
        "serving",
    },
    "exploring": set(),
}


def test_arrows_between_rooms_run_one_way() -> None:
    for room, below in ROOMS.items():
        for path in (Path(turnover.__file__).parent / room).rglob("*.py"):
            known = set(re.findall(r"(?:from|import) turnover\.(\w+)", path.read_text())) - {
                "errors",
                "interruption",
                "progress",
            }
            assert known <= {room, *below}, path


class Counted(Dataset[tuple[Tensor, int]]):
    """Images, and how often each was decoded, in whatever process."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.decoded = x, y, torch.zeros(len(x), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.decoded[i] += 1
        return self.x[i], int(self.y[i])


def test_the_example_in_the_readme() -> None:
    """As it is written, on a problem of seconds."""
    code = next(c for c in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "resnet" in c)
    assert len(code.splitlines()) <= 25 and "class " not in code
    generator = torch.Generator().manual_seed(0)
    images = Counted(torch.rand(60, 3, 32, 32, generator=generator), torch.arange(60) % 7)
    test = TensorDataset(images.x[:4], images.y[:4])
    names: dict[str, Any] = {"dataset": images, "test_loader": DataLoader(test, batch_size=2)}
    training, scoring = code.split("train = read")
    exec(compile(training, "README.md", "exec"), names)
    images.decoded.zero_()
    exec(compile("train = read" + scoring, "README.md", "exec"), names)
    assert images.decoded.tolist() == [1] * 60  # one pass for memorization, support and influence
    assert (
        len(names["wrong"]) == 50 and len(names["helpful"]) == 5 and names["scores"]["id"].tolist() == list(range(60))
    )
    assert names["scores"]["loss"].mean() > 0.3  # noise is memorized
    assert names["effect"].shape == (60, 4)
    own = [int(names["effect"][:, n].argmax()) for n in range(4)]
    assert own == [0, 1, 2, 3]  # these test examples are training examples: each helped itself most


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import sys, turnover; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
