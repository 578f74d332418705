"""Seeds side by side in forked processes: the same bits, the same stops, one checkpoint for one of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.turnover.attribution.networks import run_python


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `forked.py` found."""
    found: dict[str, Any] = json.loads(
        run_python(Path(__file__).with_name("forked.py"), tmp_path_factory.mktemp("forked"))
    )
    return found


def test_a_training_in_a_forked_child_gives_the_bits_of_one_alone(report: dict[str, Any]) -> None:
    assert report["forked"] == report["alone"]
    assert len({*report["alone"]} - {""}) == 2


def test_a_signal_to_a_child_saves_in_the_middle_of_an_epoch(report: dict[str, Any]) -> None:
    for number, (status, step, resumed) in zip((signal.SIGINT, signal.SIGTERM), report["signals"], strict=True):
        assert status == 128 + number
        assert step == "3"
        assert resumed == report["alone"][0]


def test_training_and_resuming_never_load_the_compiler(report: dict[str, Any]) -> None:
    """It would take longer than a small training, in every process."""
    assert report["resumed"] == report["alone"][0]
    assert report["compiler"] is False


def test_the_second_one_is_told_who_holds_the_checkpoint(report: dict[str, Any]) -> None:
    holder, refused = report["held"]
    assert refused.startswith(f"another process ({holder}) is training with the checkpoint ")
