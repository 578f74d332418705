"""The server as its user starts it, on one audit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.turnover.auditing.conftest import Audited, audited
from tests.unit.turnover.serving.running import Server, running

__all__ = ["audited"]


@pytest.fixture(scope="module")
def server(audited: Audited) -> Iterator[Server]:
    with running(audited.folder) as found:
        yield found
