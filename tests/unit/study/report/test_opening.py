"""The opening of report and README: short, and never more than the verdicts and intervals say."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from study.commands import readme as readme_command
from study.commands.readme import with_findings, write
from study.report.opening import LIMIT, TITLE, rows, sentences
from tests.support import ROOT
from turnover.errors import UserError

VERDICTS = ("supported", "contradicted", "undecided", None)  # None: there is no such claim
SUMMARY = {
    "scenarios": {
        "real": {"dataset": "fashion-mnist", "train": 58000, "random": 0},
        "mixed": {"dataset": "fashion-mnist", "train": 58000, "random": 11600},
    }
}


def findings(verdicts: dict[str, str | None], *, points: float = -1.2, alone: float = -4.9, half: float = 0.5) -> Any:
    """Claims with these verdicts; `points` of accuracy and those `alone`, with intervals of `half` to each side."""

    def plain(mean: float, unit: str) -> dict[str, Any]:
        return {"mean": mean, "low": mean - half, "high": mean + half, "unit": unit}

    units = {"P1": "epochs later", "P2": "% likelier after one epoch", "P3": "epochs later", "P4": "points of accuracy"}
    sign = {"supported": 1, "contradicted": -1, "undecided": 0}
    claims = []
    for key, verdict in verdicts.items():
        if verdict is not None:
            mean = points if key == "P4" else 4.4 * sign[verdict]
            of = {"mean": 0.3 * sign[verdict], "low": 0.2, "high": 0.4, "unit": "nats", "seeds": 8}
            more = {"alone": plain(alone, "points of accuracy")}
            claims.append(
                {"key": key, "title": key, "verdict": verdict, "plain": plain(mean, units[key]), **of, "more": more}
            )
    return {"seeds": {"head": list(range(8))}, "confidence": 0.95, "claims": claims}


def test_every_combination_of_verdicts_fits_before_the_table_and_names_every_claim() -> None:
    for verdicts in itertools.product(VERDICTS, repeat=4):
        for points, half in ((-1.2, 0.5), (-0.4, 0.8)):
            found = dict(zip(("P1", "P2", "P3", "P4"), verdicts, strict=True))
            said = sentences(findings(found, points=points, half=half), SUMMARY)
            text = " ".join(said)
            assert len(said) == 3
            assert len(f"{TITLE} {text}".split()) <= LIMIT, text
            assert text.count("Contradicted:") == ("contradicted" in verdicts)
            assert text.count("Undecided:") == ("undecided" in verdicts)
            assert text.count("Not tested:") == (None in verdicts)
            assert said[1].startswith("Supported:") == ("supported" in verdicts)
            # Each claim once: what is learned when (P1 to P3), and what the most memorized are worth (P4).
            assert text.count("learned") - text.count("are learned one after") >= 2


def test_what_is_supported_is_said_with_its_number() -> None:
    done, holds, limits = sentences(findings(dict.fromkeys(("P1", "P2", "P3", "P4"), "supported")), SUMMARY)
    assert "8 networks per experiment, 58,000 Fashion-MNIST images; one experiment has 20 % random labels)." in done
    assert "real images are learned 4.4 epochs earlier than wrongly labelled ones" in holds
    assert "predict new ones worse (1.2 points of accuracy) than without others" in holds
    assert limits == "But alone, the most memorized teach less than random ones (−4.9 points of accuracy)."


def test_no_number_whose_interval_includes_zero_is_said_to_hold() -> None:
    found = findings(dict.fromkeys(("P1", "P2", "P3", "P4"), "supported"), points=-0.4, alone=0.1, half=4.5)
    _, holds, limits = sentences(found, SUMMARY)
    assert "learned faster than wrongly labelled" in holds and "4.4" not in holds and "points" not in holds
    assert limits == "But accuracy without the most memorized is not clearly lower (−0.4 points [−4.9, 4.1])."


def test_an_undecided_claim_is_a_question() -> None:
    _, holds, limits = sentences(findings({"P1": "undecided", "P4": "contradicted"}, alone=0.0), SUMMARY)
    assert holds == "No claim is supported."
    assert limits == (
        "Contradicted: the most memorized images tell networks less than others. "
        "Undecided: whether real images are learned faster than wrongly labelled ones. "
        "Not tested: whether real and wrongly labelled images are learned together; whether the least memorized (easy) "
        "real images are learned faster than the most memorized (difficult) ones."
    )


def test_plain_units_say_the_direction_in_words() -> None:
    found = findings({"P1": "supported", "P2": "contradicted", "P4": "supported"})
    assert [row.plain for row in rows(found)] == [
        "4.4 epochs earlier [3.9, 4.9]",
        "4 % less likely after one epoch [4, 5]",
        "1.2 points of accuracy lost [0.7, 1.7]",
    ]


def test_readme_has_the_block_of_the_metrics(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme_command, "TABLES", {})  # of the validation, which this study has none of
    shutil.copytree(results / "reports/metrics", tmp_path / "reports/metrics")
    readme = tmp_path / "README.md"
    readme.write_text("# Name\n\n<!-- findings -->\nold\n<!-- /findings -->\n\nMore.\n", encoding="utf-8")
    write(tmp_path)
    text = readme.read_text(encoding="utf-8")
    report = (results / "reports/report.md").read_text(encoding="utf-8")
    opening = report.partition("\n\n")[2].partition("\n\n![")[0]
    assert text == f"# Name\n\n<!-- findings -->\n\n{opening}\n\n<!-- /findings -->\n\nMore.\n"
    assert with_findings(text, tmp_path / "reports/metrics") == text
    with pytest.raises(UserError, match="no lines <!-- findings -->"):
        with_findings("# Name\n", tmp_path / "reports/metrics")
    (tmp_path / "reports/metrics/summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"summary.json is missing or corrupt"):
        with_findings(text, tmp_path / "reports/metrics")


def test_the_readme_says_what_the_metrics_say(tmp_path: Path) -> None:
    """Those in git, or those here: `make repro` on another kind of processor gives other digits."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = [with_findings(readme, ROOT / "reports/metrics")]
    for name in ("findings.json", "summary.json"):
        shown = subprocess.run(
            ["git", "show", f"HEAD:reports/metrics/{name}"], cwd=ROOT, capture_output=True, check=False
        )
        (tmp_path / name).write_bytes(shown.stdout)  # nothing outside of a repository
    if (tmp_path / "findings.json").stat().st_size:
        assert json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["claims"]
        said.append(with_findings(readme, tmp_path))
    assert readme in said, "run `python -m study.commands.readme`"
