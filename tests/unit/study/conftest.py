"""A make-believe study with everything made from it, once for all tests that only look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.study.fake_runs import make_repository, make_results


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a repository whose findings, summary, figures and report are made. Not to be changed."""
    return make_results(make_repository(tmp_path_factory.mktemp("study")))
