"""One tiny project for all tests of the pipeline: a whole run takes a minute or two, so it is made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import Project

EVERYTHING = {
    "fetch",
    "corrupt@real",
    "corrupt@mixed",
    "train@real-head",
    "train@real-dropout",
    "train@mixed-head",
    "train@mixed-dropout",
    "estimate@real",
    "estimate@mixed",
    "validation_data@validation",
    "retrain@validation",
    "judges@validation",
    "validate@validation",
    "removal",
    "findings",
    "summarize",
    "figures",
    "explorer",
    "report",
}


@pytest.fixture(scope="session")
def project(make_project: Callable[[], Project]) -> Project:
    """A project whose pipeline has run once, without tracking, and is committed.

    Tests that change it put back what they changed, or stand at the end of `test_pipeline.py`.
    """
    made = make_project()
    assert made.repro() == EVERYTHING
    made.commit()
    return made
