"""The table of variants: every effect beside the study's own, and one sentence for what is missing or damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from stages import findings
from study.context.stage import run_stage
from study.findings.variants import COLUMNS, variants_table
from tests.unit.study.fake_runs import add_variant
from turnover.errors import UserError


def _own(results: Path) -> tuple[dict[str, object], pd.DataFrame]:
    found = json.loads((results / "reports/metrics/findings.json").read_text(encoding="utf-8"))
    return found, pd.read_csv(results / "reports/metrics/findings/effects.csv")


def test_every_effect_of_a_variant_stands_beside_the_studys_own(results: Path) -> None:
    table = pd.read_csv(results / "reports/metrics/findings/variants.csv")
    found, effects = _own(results)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["variant"].unique()) == ["noisy", "small", "large"], "settings as they come, values as they grow"
    small = table[table["variant"] == "small"].set_index("effect")
    assert (
        set(small["varies"]) == {"data.train"} and set(small["value"]) == {30} and set(small["default_value"]) == {60}
    )
    for claim in found["claims"]:
        for name, of, mean in ((claim["name"], claim, 1.0), (f"{claim['name']}_plain", claim["plain"], None)):
            row = small.loc[name]
            assert [row[f"default_{of}"] for of in ("mean", "low", "high")] == [of["mean"], of["low"], of["high"]]
            assert (row["default_seeds"], row["seeds"], row["unit"]) == (claim["seeds"], 3, of["unit"])
            assert mean is None or (row["mean"], row["low"], row["high"]) == (1.0, 0.7, 1.3)
    assert small.loc["alone", "default_mean"] == found["claims"][3]["more"]["alone"]["mean"]
    for name, who, scenario in (
        ("memorization_wrong", "wrongly labelled", "mixed"),
        ("memorization_difficult", "real difficult", "real"),
    ):
        own = effects[
            (effects["text"] == f"memorization (probability) at the end, {who} examples minus placebos")
            & (effects["scenario"] == scenario)
            & (effects["placement"] == "head")
        ]
        assert small.loc[name, "default_mean"] == own["mean"].item()
    noisy = set(table.loc[table["variant"] == "noisy", "effect"])
    assert noisy == {"easy_faster", "easy_faster_plain", "together", "together_plain", "memorization_wrong"}


def test_without_variants_the_table_is_empty(results: Path, tmp_path: Path) -> None:
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants/README.md").write_text("what lies here")
    (tmp_path / "variants/.small.part").mkdir()  # of a run that was killed
    for folder in (tmp_path / "variants", tmp_path / "none"):
        table = variants_table(folder, *_own(results))
        assert list(table.columns) == list(COLUMNS) and not len(table)


def test_an_effect_that_the_study_lacks_has_no_value_of_its_own(tmp_path: Path) -> None:
    add_variant(tmp_path, "small", "data.train", 30, 60)
    effects = pd.DataFrame(columns=["scenario", "placement", "text", "unit", "mean", "low", "high", "seeds"])
    table = variants_table(tmp_path / "reports/variants", {"claims": []}, effects)
    assert table["mean"].notna().all() and table["default_mean"].isna().all()


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    path = add_variant(tmp_path, "small", "data.train", 30, 60, only=("P1",)) / "findings.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    found["claims"][0]["plain"] |= {"low": None, "high": None}
    path.write_text(json.dumps(found), encoding="utf-8")
    effects = pd.read_csv(path.parent / "effects.csv")
    table = variants_table(tmp_path / "reports/variants", found, effects).set_index("effect")
    assert table.loc["easy_faster_plain", ["low", "high", "default_low", "default_high"]].isna().all()
    assert table.loc["easy_faster", "low"] == pytest.approx(0.2)


def _without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({name: of for name, of in json.loads(text).items() if name != key})


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("made-by.json", None),
        ("made-by.json", _without("varies")),
        ("made-by.json", lambda text: text.replace("30", '"a few"')),
        ("made-by.json", lambda text: "[]"),
        ("findings.json", None),
        ("findings.json", lambda text: text[:100]),
        ("findings.json", _without("claims")),
        ("findings.json", lambda text: text.replace('"more"', '"less"')),
        ("findings.json", lambda text: '{"claims": 3}'),
        ("findings.json", lambda text: '{"claims": ["P1"]}'),
        ("effects.csv", None),
        ("effects.csv", lambda text: ""),
        ("effects.csv", lambda text: text.replace("placement", "place")),
        ("effects.csv", lambda text: text.replace("0.7", "x")),
    ],
)
def test_what_is_missing_or_damaged_is_named_with_its_cure(
    tmp_path: Path, name: str, damage: Callable[[str], str] | None
) -> None:
    path = add_variant(tmp_path, "small", "data.train", 30, 60) / name
    whole = path.read_text(encoding="utf-8")
    if damage is None:
        path.unlink()
    else:
        path.write_text(damage(whole), encoding="utf-8")
    says = (
        rf"^reports/variants/small/{name} is {'missing' if damage is None else 'damaged .*'}: delete .* `make variants`"
    )
    effects = pd.DataFrame(columns=["scenario", "placement", "text", "unit", "mean", "low", "high", "seeds"])
    with pytest.raises(UserError, match=says):
        variants_table(tmp_path / "reports/variants", {"claims": []}, effects)


def test_the_stage_says_it_in_one_sentence(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    (tmp_path / "reports/variants/large/effects.csv").write_bytes(b"\xff\xfe")
    assert run_stage(findings.run, "findings", {}, root=tmp_path) == 1
    assert "error: reports/variants/large/effects.csv is damaged" in capsys.readouterr().err
