"""Stage `report` on a make-believe study: self-contained, complete, and no number that is not in summary.json."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stages import report
from study.context.stage import run_stage
from study.report.render import digits, measured, p_value, p_words, plain, pm, where
from study.report.svg import inline
from tests.unit.study.fake_runs import make_repository, make_results


@pytest.fixture(scope="module")
def reports(results: Path) -> Path:
    return results / "reports"


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
        headings = re.findall(r"(Supported|Mixed|Not supported|Contradicted|Undecided): ", before)
        assert headings[-1].lower() == claim["verdict"]
    assert "  " not in opening


def test_report_says_what_the_numbers_say(reports: Path) -> None:
    text = (reports / "report.md").read_text(encoding="utf-8")
    assert "AUROC of 0.960 ± 0.025" in text
    assert "**Among real labels, easy examples are optimized faster than difficult ones.** (" in text
    assert "in scenario real costs less than removing the most memorized from a share of 10 % on" in text
    assert "−0.50 ± 0.00 percentage points" in text
    assert "| `seeds.head` | 0, 1, 2 |" in text
    assert "Numbers: mean ± 95 % t-interval over 3 seeds for placement head, 2 for all." in text
    assert "(mean ± 95 % t-interval over 3 seeds; scenario mixed, placement head)" in text
    assert not re.search(r"\{\{|\}\}|\{%|None|nan|Undefined", text)


@pytest.mark.parametrize("scenarios", [{"random": 1.0}, {"real": 0.0}])
def test_one_seed_and_one_kind_of_label_suffice(tmp_path: Path, scenarios: dict[str, float]) -> None:
    one = {"head": [0], "other": [0]}
    root = make_repository(
        tmp_path, seeds=one, scenarios=scenarios, placements=("head",), removal=False, validation=False
    )
    text = (make_results(root) / "reports/report.md").read_text(encoding="utf-8")
    found = json.loads((root / "reports/metrics/findings.json").read_text())
    assert {claim["verdict"] for claim in found["claims"]} == {"undecided"}
    assert not found["removal"]
    assert not (root / "reports/figures/removal.svg").exists()
    assert "ordinary dropout" not in text, "there is no control"
    assert "No network was retrained" in text
    assert "one seed, so no interval" in text
    assert "undecided" in text
    assert "±" not in text.split("## Settings")[0].replace("mean ± 95", "")


def test_class_names_cannot_break_the_page(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    for name in ("gallery", "mistakes"):
        path = tmp_path / f"reports/figures/{name}.csv"
        path.write_text(path.read_text().replace("cup", "<b>NA & cup").replace("hat", "None"))
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    text = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
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


def test_a_comparison_of_estimators_is_shown_where_there_is_one(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, text = ((results / "reports" / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    assert 'id="validation"' in page
    assert "judged by 200 subset networks" in page
    assert "(figures/validation-validation.png)" in text
    assert (
        "| turn-over raw | turn-over | 1 | 12 | 0.710 [0.680, 0.740] | 0.160 [0.150, 0.170] | 0.980 | 0.900 |" in text
    )
    assert "| TRAK | peer | 10 | 240 | – | 0.120 [0.100, 0.140] | – | – |" in text
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    cost = tmp_path / "reports/validation/validation/cost.csv"
    cost.write_text("nothing\n1\n")
    assert run_stage(report.run, "report", {}, root=tmp_path) == 1
    assert "the tables of reports/validation/validation are corrupt" in capsys.readouterr().err
    shutil.rmtree(cost.parents[1])
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    assert 'id="validation"' not in (tmp_path / "reports/index.html").read_text(encoding="utf-8")


def test_a_contradicted_claim_has_its_badge(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "reports/metrics/findings.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    claim = found["claims"][0]
    claim.update(verdict="contradicted", holds=0, opposite=claim["of"], p_holm_opposite=0.0125)
    path.write_text(json.dumps(found), encoding="utf-8")
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    page, text = ((tmp_path / f"reports/{name}").read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    row = page.partition(f"<td>{claim['title']}</td>")[2].partition("</tr>")[0]
    assert '<span class="badge contradicted">contradicted</span>' in row
    assert f"{claim['of']} opposite" in row
    opening = text.split("\n\n")[1]
    assert "Contradicted: " in opening and "the opposite with p = 0.013" in opening
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert ".badge.contradicted" in style
