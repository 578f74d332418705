"""README's library example on a network and data so small that it runs in a second; read by the tests as a script.

    python example.py README.md

Prints "ok" when the example has run and found what it should.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

EXAMPLES, TESTED, CLASSES = 60, 8, 3


class Without:
    """One of Python's finders of packages, which finds those named no more: as if they were not installed."""

    def __init__(self, finder: Any, names: Collection[str]) -> None:
        self.finder, self.names = finder, names

    def find_spec(self, name: str, *place: Any) -> Any:
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, *place)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


def hide(names: Collection[str]) -> None:
    """From now on, these packages cannot be imported in this process."""
    sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]


def library_example(readme: str) -> str:
    """The Python block under "your own model and data"."""
    section = readme[readme.index("your own model and data") :]
    return section.split("```python\n", 1)[1].split("```", 1)[0]


def run(readme: str) -> None:
    """Run the example on 60 random rows whose labels say nothing, so that every one of them is memorized."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)

    def resnet18(num_classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, num_classes))

    models = ModuleType("torchvision.models")  # which is not installed here
    models.resnet18 = resnet18  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": ModuleType("torchvision"), "torchvision.models": models}
    test = TensorDataset(torch.randn(TESTED, 20), torch.randint(CLASSES, (TESTED,)))
    names = {
        "dataset": TensorDataset(torch.randn(EXAMPLES, 20), torch.randint(CLASSES, (EXAMPLES,))),
        "test_loader": DataLoader(test, batch_size=3),
    }
    exec(compile(library_example(readme), "README.md", "exec"), names)
    assert len(names["wrong"]) == 50
    assert names["scores"]["probability"].mean() > 0.2
    assert len(names["memorized"]) == 50
    assert names["effect"].shape == (EXAMPLES, TESTED)
    assert torch.isfinite(names["effect"]).all() and names["effect"].any()
    assert len(names["helpful"]) == 5


if __name__ == "__main__":
    run(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("ok")
