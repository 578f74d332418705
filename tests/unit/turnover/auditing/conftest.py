"""One audit of pictures, which several tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.turnover.auditing.examples import pictures
from turnover import audit
from turnover.auditing.audits import Audit

QUICK = {"epochs": 12, "hidden": 64, "threads": 1, "device": "cpu"}


@dataclass(frozen=True)
class Audited:
    """Pictures in class folders, those with wrong labels and what they are, and the audit of them."""

    root: Path
    wrong: dict[str, str]
    audit: Audit
    folder: Path


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    place = tmp_path_factory.mktemp("audited")
    wrong = pictures(place / "set")
    return Audited(place / "set", wrong, audit(place / "set", out=place / "audit", **QUICK), place / "audit")
