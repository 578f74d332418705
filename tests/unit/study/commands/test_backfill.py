"""The backfill's command line; what it does is in tests/pipeline/test_tracking.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.commands import backfill


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--dry", 2)])
def test_asking_for_help_or_for_what_there_is_not_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["backfill", argument])
    with pytest.raises(SystemExit) as ended:
        backfill.main()
    assert ended.value.code == status
    said = capsys.readouterr()
    assert "python -m study.commands.backfill" in said.out + said.err
    assert not list(tmp_path.iterdir())
