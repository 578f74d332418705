"""What is installed is pinned: one version each, known by the hashes of its files."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT


@pytest.mark.parametrize("name", sorted(path.name for path in ROOT.glob("requirements*.lock")))
def test_every_requirement_has_a_version_and_hashes(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line[:80]


def test_uv_and_what_builds_the_package_are_pinned_too() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements-uv.lock" in makefile
    assert re.fullmatch(r"uv==[0-9.]+ [^;]*", (ROOT / "requirements-uv.lock").read_text().replace("\\\n", "").strip())
    assert re.search(r"^setuptools==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
