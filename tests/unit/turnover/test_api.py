"""What `from turnover import ...` gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import turnover


def test_every_public_name_is_there() -> None:
    for name in turnover.__all__:
        assert callable(getattr(turnover, name)), name
        assert getattr(turnover, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'turnover' has no attribute 'nothing'"):
        turnover.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["influence", "memorization"])
@pytest.mark.parametrize("before", ["", "import turnover.{0}", "from turnover import {0}"])
def test_functions_are_not_hidden_by_the_modules_of_the_same_name(name: str, before: str) -> None:
    script = f"{before.format(name)}\nfrom turnover import {name}\nprint(type({name}).__name__)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "function\n"


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import sys, turnover; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
