"""Stage `report` on a make-believe study: self-contained, complete, and no number that is not in summary.json."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import figures, findings, report
from study.context.stage import run_stage
from study.report.evidence import digits, p_value, p_words, where
from study.report.render import measured, plain, pm
from study.report.svg import inline
from study.report.validation import SCORES
from study.validation.judge import FIGURES
from tests.unit.study.fake_runs import make_repository


def _make(root: Path) -> Path:
    assert run_stage(findings.run, "findings", {}, root=root) == 0
    assert run_stage(figures.run, "figures", {}, root=root) == 0
    assert run_stage(report.run, "report", {}, root=root) == 0
    return root / "reports"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(make_repository(tmp_path_factory.mktemp("study")))


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_nothing_but_itself(reports: Path) -> None:
    text = (reports / "index.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert len(text) < 1_500_000
    assert not page.of("script")
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in page.of("img"))
    assert all(str(link["href"]).startswith("data:") for link in page.of("link"))
    assert not re.findall(r"@import|src=\"(?!data:)|url\((?!#)", text)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.of("svg"))


def test_ids_are_unique_and_every_reference_has_its_target(reports: Path) -> None:
    text = (reports / "index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= set(ids)


def test_links_and_pictures_exist(reports: Path) -> None:
    page = _Page((reports / "index.html").read_text(encoding="utf-8"))
    targets = [str(a["href"]) for a in page.of("a") if not str(a["href"]).startswith("#")]
    markdown = (reports / "report.md").read_text(encoding="utf-8")
    targets += re.findall(r"\]\(([^)#]+)\)", markdown)
    assert targets
    assert not [target for target in targets if not (reports / target).exists()]


def test_every_number_in_the_prose_is_in_the_metrics(reports: Path) -> None:
    """The opening and the verdicts: each decimal number is a rounded entry of findings.json or summary.json."""
    prose = (reports / "report.md").read_text(encoding="utf-8").split("| Comparison")[0]
    known: list[float] = []

    def collect(value: object) -> None:
        if isinstance(value, dict | list):
            for of in value.values() if isinstance(value, dict) else value:
                collect(of)
        elif isinstance(value, float | int):
            known.extend((abs(value), abs(100 * value), 1 - value))

    for name in ("findings", "summary"):
        collect(json.loads((reports / f"metrics/{name}.json").read_text(encoding="utf-8")))
    numbers = re.findall(r"\d+\.\d+", prose.replace("< 0.001", ""))
    assert len(numbers) > 60
    for number in numbers:
        digits_of = len(number.partition(".")[2])
        assert any(abs(value - float(number)) <= 0.500001 * 10**-digits_of for value in known), number


def test_the_first_paragraph_states_every_claim_and_what_contradicts_it(reports: Path) -> None:
    text = (reports / "report.md").read_text(encoding="utf-8")
    opening = text.split("\n\n")[1]
    found = json.loads((reports / "metrics/findings.json").read_text(encoding="utf-8"))
    assert opening.startswith(
        "Claim 1, “together, the easy ones faster”: mixed on make-believe (mean ± 95 % t-interval"
    )
    for claim in found["claims"]:
        statement = opening.partition(claim["title"][1:] + " (")[2].partition(")")[0]
        assert statement, claim["title"]
        assert ("contradicted" in statement) == bool(claim["opposite"])
        before = opening.partition(claim["title"][1:])[0]
        headings = re.findall(r"(Supported|Mixed|Not supported|Undecided): ", before)
        assert headings[-1].lower() == claim["verdict"]
    assert "  " not in opening


def test_report_says_what_the_numbers_say(reports: Path) -> None:
    text = (reports / "report.md").read_text(encoding="utf-8")
    assert "AUROC of 0.965 ± 0.064" in text
    assert "**Among real labels, easy examples are optimized faster than difficult ones.** (" in text
    assert "in scenario real costs less than removing the most memorized from a share of 10 % on" in text
    assert "−0.50 ± 0.00 percentage points" in text
    assert "| `seeds` | 0, 1 |" in text
    assert not re.search(r"\{\{|\}\}|\{%|None|nan|Undefined", text)


def test_second_run_writes_the_same_bytes(reports: Path) -> None:
    before = {name: (reports / name).read_bytes() for name in ("index.html", "report.md")}
    assert run_stage(report.run, "report", {}, root=reports.parent) == 0
    assert {name: (reports / name).read_bytes() for name in before} == before
    assert not [path for path in reports.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("scenarios", [{"random": 1.0}, {"real": 0.0}])
def test_one_seed_and_one_kind_of_label_suffice(tmp_path: Path, scenarios: dict[str, float]) -> None:
    made = _make(make_repository(tmp_path, seeds=(0,), scenarios=scenarios, placements=("head",), removal=False))
    text = (made / "report.md").read_text(encoding="utf-8")
    assert "No network was retrained" in text
    assert "one seed, so no interval" in text
    assert "undecided" in text
    assert "±" not in text.split("## Settings")[0].replace("mean ± 95", "")


def test_class_names_cannot_break_the_page(tmp_path: Path) -> None:
    root = make_repository(tmp_path, seeds=(0,), scenarios={"mixed": 0.25}, placements=("head",))
    about = root / "data/mixed/scenario.json"
    about.write_text(about.read_text().replace('"cup"', '"<b>NA & cup"').replace('"hat"', '"None"'))
    text = (_make(root) / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;NA &amp; cup" in text
    assert "<b>NA" not in text
    assert ">None" in text


def test_missing_figures_are_one_clear_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_repository(tmp_path)
    assert run_stage(report.run, "report", {}, root=root) == 1
    assert "reports/figures is missing" in capsys.readouterr().err


def test_numbers_are_written_as_people_read_them() -> None:
    assert (plain(-0.0004), plain(-0.5, 1), plain(2.0, 0)) == ("0.000", "−0.5", "2")
    assert pm({"mean": 0.5, "half_width": 0.25, "n": 3}, 2, sign=True) == "+0.50 ± 0.25"
    assert pm({"mean": 0.5, "half_width": None, "n": 1}, 1) == "0.5"
    assert pm(None) == "–"
    assert (p_value(0.00049), p_value(0.0496), p_value(None)) == ("< 0.001", "0.050", "–")
    assert (p_words(0.0004), p_words(0.2), p_words(None)) == ("p < 0.001", "p = 0.200", "")
    assert digits({"unit": "nats", "effect": {"mean": -12.0}}) == 1
    assert measured({"lds": 0.25, "lds_low": 0.2, "lds_high": None}, "lds") == "0.250"
    assert measured({"lds": 0.25, "lds_low": 0.2, "lds_high": 0.3}, "lds") == "0.250 [0.200, 0.300]"
    assert measured({"lds": None}, "lds") == measured({}, "lds") == "–"
    part = {"scenario": "real", "placement": "retrained", "definition": ""}
    assert where(part) == "scenario real, retrained"


def test_svg_follows_the_colours_of_the_page() -> None:
    svg = (
        '<?xml version="1.0"?>\n<svg width="2pt" viewBox="0 0 1 1"><metadata>x</metadata><g id="a">'
        '<path id="b" style="fill: #1f2328"/><use xlink:href="#b" style="fill: #123456"/></g></svg>'
    )
    text = inline(svg, "plot", 'a "b"')
    assert "var(--ink)" in text
    assert "#123456" in text
    assert 'id="plot-b"' in text
    assert 'href="#plot-b"' in text
    assert 'id="a"' not in text
    assert "metadata" not in text
    assert 'aria-label="a &#34;b&#34;"' in text


def test_a_comparison_of_estimators_is_shown_where_it_is_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repository(tmp_path, seeds=(0,), scenarios={"mixed": 0.25}, placements=("head",))
    yaml = YAML()
    stages = yaml.load((root / "dvc.yaml").read_text(encoding="utf-8"))
    deps = stages["stages"]["report"]["deps"]
    stages["stages"]["report"]["deps"] = [dep for dep in deps if "validation" not in dep] + [
        "reports/metrics/validation.csv", "reports/metrics/validation-cost.csv", "reports/validation"
    ]  # fmt: skip
    with (root / "dvc.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(stages, file)
    metrics = root / "reports/metrics"
    (metrics / "validation.csv").write_text(
        "method,family,networks,memorization,memorization_low,memorization_high,lds,auroc,average_precision\n"
        "turn-over,ours,1,0.71,0.68,0.74,0.39,0.98,0.9\nTRAK,peer,10,,,,0.12,,\n"
    )
    (metrics / "validation-cost.csv").write_text("method,networks,seconds\nturn-over,1,12.4\nTRAK,10,240\n")
    (root / "reports/validation").mkdir()
    (root / "reports/validation/cost.svg").write_text('<svg viewBox="0 0 9 9"><text>LDS by cost</text></svg>')
    made = _make(root)
    page, text = ((made / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    assert 'id="validation"' in page and "LDS by cost" in page
    assert "| turn-over | ours | 1 | 12 | 0.710 [0.680, 0.740] | 0.390 | 0.980 | 0.900 |" in text
    assert "| TRAK | peer | 10 | 240 | – | 0.120 | – | – |" in text
    (metrics / "validation-cost.csv").write_text("nothing\n1\n")
    assert run_stage(report.run, "report", {}, root=root) == 1
    assert "the tables of validation are corrupt" in capsys.readouterr().err


def test_the_shown_scores_are_columns_of_the_comparison() -> None:
    assert set(SCORES) <= set(FIGURES)
