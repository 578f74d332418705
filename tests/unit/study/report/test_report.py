"""Stage `report` on a make-believe study: self-contained, complete, and no number that is not in summary.json."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from stages import report
from study.context.declaration import read_yaml
from study.context.stage import run_stage
from study.report.numbers import effect, measured, p_value, plain, pm, signed
from study.report.opening import LIMIT, literal
from study.report.render import FOLDED, anchor, where
from study.report.svg import inline
from tests.unit.study.fake_runs import make_repository, make_results, own_results


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
    """From the opening to the last table of the claims: each decimal is a rounded entry of a metrics file."""
    prose = (reports / "report.md").read_text(encoding="utf-8").split("Numbers below")[0]
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
    assert len(numbers) > 40
    for number in numbers:
        digits_of = len(number.partition(".")[2])
        assert any(abs(value - float(number)) <= 0.500001 * 10**-digits_of for value in known), number


def test_the_report_opens_with_three_sentences_the_claims_and_a_figure_each(reports: Path) -> None:
    text = (reports / "report.md").read_text(encoding="utf-8")
    title, done, holds, limits, table, first, _, second, *_ = text.split("\n\n")
    assert title == "# What neural networks memorize"
    assert len(" ".join((title, done, holds, limits)).split()) <= LIMIT
    assert "3 networks per experiment, 60 make-believe images; one experiment has 25 % random labels)." in done
    assert holds.startswith("**Supported:** real images are learned 0.8 epochs earlier than wrongly labelled ones;")
    assert limits == "But alone, the most memorized teach less than random ones (−8.7 points of accuracy)."
    found = json.loads((reports / "metrics/findings.json").read_text(encoding="utf-8"))
    lines = table.splitlines()[2:]
    assert len(lines) == len(found["claims"]) == 4
    for line, claim in zip(lines, found["claims"], strict=True):
        assert line.startswith(f"| {claim['key']} | {claim['title']} | **{claim['verdict']}** | ")
    assert "| 3.9 points of accuracy lost [2.6, 5.2] | +0.039 [0.026, 0.052] nats |" in lines[3]
    assert first.endswith("(figures/finding-1.png)") and second.endswith("(figures/finding-2.png)")


def test_the_page_shows_the_claims_before_everything_else_and_folds_the_rest(reports: Path) -> None:
    page = (reports / "index.html").read_text(encoding="utf-8")
    opening, _, rest = page.partition("<h2>Everything else</h2>")
    places = [opening.index(of) for of in ("<h1>", '<table class="claims">', 'aria-label="Real and', "<section")]
    assert places == sorted(places)
    assert opening.count('<span class="badge supported">✓ supported</span>') == 6, "four claims, two findings"
    assert "<details>" not in opening
    for id_ in FOLDED:
        assert re.search(rf'<details>\s*<summary><h2>.*?</h2></summary>\s*<section id="{id_}">', rest), id_


def test_report_says_what_the_numbers_say(reports: Path) -> None:
    text = (reports / "report.md").read_text(encoding="utf-8")
    assert "AUROC of 0.960 ± 0.025" in text
    assert "−0.50 ± 0.00 percentage points" in text
    assert "| `seeds.head` | 0, 1, 2 |" in text
    assert "Numbers below: mean ± 95 % t-interval over 3 seeds for placement head, 2 for all." in text
    assert "(mean ± 95 % t-interval over 3 seeds; scenario mixed, placement head)" in text
    assert "smallest" not in text.split("## Everything else")[0].lower()
    assert "| first learned, real difficult minus real easy examples | scenario real, placement head," in text
    assert not re.search(r"\{\{|\}\}|\{%|None|nan|Undefined", text)


@pytest.mark.parametrize("scenarios", [{"random": 1.0}, {"real": 0.0}])
def test_one_seed_and_one_kind_of_label_suffice(tmp_path: Path, scenarios: dict[str, float]) -> None:
    one = {"head": [0], "other": [0]}
    root = make_repository(
        tmp_path,
        seeds=one,
        scenarios=scenarios,
        placements=("head",),
        removal=False,
        validation=False,
        variants=False,
    )
    text = (make_results(root) / "reports/report.md").read_text(encoding="utf-8")
    found = json.loads((root / "reports/metrics/findings.json").read_text())
    assert {claim["verdict"] for claim in found["claims"]} <= {"undecided"}
    assert found["findings"] == {"1": "undecided", "2": "undecided"}
    assert not found["removal"]
    assert not list((root / "reports/figures").glob("finding-*"))
    assert not (root / "reports/figures/removal.svg").exists()
    assert "ordinary dropout" not in text, "there is no control"
    assert "No network was retrained" in text
    assert "one seed, so no interval" in text
    assert FOLDED["variants"] not in text and not list((root / "reports/figures").glob("variants*"))
    assert 'id="variants"' not in (root / "reports/index.html").read_text(encoding="utf-8")
    assert "Not tested:** whether" in text
    assert "±" not in text.split("### Settings")[0]


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


def test_class_names_that_look_like_numbers_stay_as_they_are(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    for name in ("gallery", "mistakes"):
        path = tmp_path / f"reports/figures/{name}.csv"
        names = {"cup": "00001", "hat": "1e3"}
        table = pd.read_csv(path).replace(names)
        assert "00001" in set(table["given_name"])
        table.to_csv(path, index=False)
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    text = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert ">00001" in text and ">1e3" in text


def test_a_place_of_ones_own_data_cannot_break_the_pages(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    place = "table:/a_b/*c*|<img>`$d$.csv"
    summary, params = tmp_path / "reports/metrics/summary.json", tmp_path / "params.yaml"
    found = json.loads(summary.read_text(encoding="utf-8"))
    for of in found["scenarios"].values():
        of["dataset"] = place
    summary.write_text(json.dumps(found), encoding="utf-8")
    settings = read_yaml(params)
    settings["data"]["dataset"] = place
    params.write_text(json.dumps(settings), encoding="utf-8")
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    page, text = ((tmp_path / "reports" / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    written = r"table:/a\_b/\*c\*\|\<img\>\`\$d\$.csv"
    assert f"60 {written} images" in text and f"| `data.dataset` | {written} |" in text
    assert place not in text
    assert "table:/a_b/*c*|&lt;img&gt;`$d$.csv" in page and "<img>" not in page


def test_one_s_own_data_open_with_suspects_and_without_the_study_s_claims(results: Path, tmp_path: Path) -> None:
    root = own_results(results, tmp_path)
    page, text = ((root / "reports" / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    suspects = pd.read_csv(root / "reports/figures/suspects.csv")
    named = [row.get("alt") for row in _Page(page).of("img")]
    assert named[: len(suspects)] == suspects["original_name"].tolist(), "they are the first pictures"
    for shown, escape in ((page, str), (text, literal)):
        assert "Labels to look at first" in shown and "the 6 whose labels are least supported" in shown
        places = [shown.index(escape(name)) for name in suspects["name"]]
        assert places == sorted(places)
        for absent in (
            "Holm",
            "Clark",
            "undecided",
            "finding-1",
            "validation-",
            "estimators",
            "variants.csv",
            "Forest plot",
        ):
            assert absent not in shown, absent
        assert "What the words mean" in shown and "Finding wrong labels" in shown
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)
    headings = {anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\(#([^)]+)\)", text)) <= headings


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
    assert (signed(0.25, 2), signed(-0.25, 2), signed(-0.0001, 2)) == ("+0.25", "−0.25", "+0.00")
    assert effect({"unit": "nats", "mean": -12.0, "low": -13.04, "high": -10.96}) == "−12.0 [−13.0, −11.0]"
    assert effect({"unit": "cosine", "mean": 0.00123, "low": None, "high": None}) == "+0.0012"
    assert effect({"unit": "rank correlation", "mean": None}) == "–"
    assert anchor("The estimates, beside others: 2") == "the-estimates-beside-others-2"
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


def test_the_study_in_other_settings_is_said_in_words_and_without_verdicts(results: Path, tmp_path: Path) -> None:
    page, text = ((results / "reports" / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    said = text.partition(f"### {FOLDED['variants']}")[2].partition("\n### ")[0]
    assert "3 variants of configs/variants.yaml. Each has few seeds (3), and none was part of the protocol" in said
    for verdict in ("supported", "contradicted", "undecided"):
        assert verdict not in said
    line = next(line for line in said.splitlines() if line.startswith("- **Training examples** "))
    assert re.search(
        r" \(30, 60 as in params.yaml, 120\): real examples are learned 6\.0, 0\.\d, 1\.5 epochs earlier", line
    )
    assert "| small variant | 6.0 [5.7, 6.3] | 18 [18, 18] | 0.80 [0.50, 1.10] | 4.0 [3.7, 4.3] | 0.80" in said
    assert re.search(r"\| noisy variant \| 3\.0 .*\| – \| – \| – \| – \| – \| 3 \|\n", said), "what it did not ask"
    assert "(figures/variants.png)" in said
    shown = page.partition('<section id="variants">')[2].partition("</section>")[0]
    assert "<li><strong>Share of random labels</strong> (25 % as in params.yaml, 40 %): " in shown
    assert "<th>small variant</th>" in shown
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    table = tmp_path / "reports/metrics/findings/variants.csv"
    table.write_text(table.read_text().replace("small variant", "1 | <b>2</b> & 3").replace("data.train", "<i>own"))
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    page, text = ((tmp_path / "reports" / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    assert "<th>1 | &lt;b&gt;2&lt;/b&gt; &amp; 3</th>" in page and "<strong>&lt;i&gt;own</strong>" in page
    assert "| 1 \\| <b>2</b> & 3 |" in text


def test_a_value_whose_interval_includes_0_or_is_unknown_stands_in_parentheses(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "reports/metrics/findings/variants.csv"
    table = pd.read_csv(path)
    of = table["effect"] == "easy_faster_plain"
    table.loc[of & (table["variant"] == "small"), "low"] = -0.1
    table.loc[of & (table["variant"] == "large"), ["low", "high"]] = None
    table.to_csv(path, index=False)
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    text = (tmp_path / "reports/report.md").read_text(encoding="utf-8")
    assert re.search(r"120\): real examples are learned \(6\.0\), 0\.\d, \(1\.5\) epochs", text)
    assert "| small variant | 6.0 [−0.1, 6.3] |" in text and "| large variant | 1.5 |" in text


def test_a_contradicted_claim_has_its_badge_and_its_sentence(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "reports/metrics/findings.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    claim = found["claims"][0]
    claim.update(verdict="contradicted", mean=-claim["mean"], low=-claim["high"], high=-claim["low"])
    path.write_text(json.dumps(found), encoding="utf-8")
    assert run_stage(report.run, "report", {}, root=tmp_path) == 0
    page, text = ((tmp_path / f"reports/{name}").read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    row = page.partition(f"<th>{claim['title']}</th>")[2].partition("</tr>")[0]
    assert '<span class="badge contradicted">✗ contradicted</span>' in row
    assert "**Contradicted:** wrongly labelled images are learned faster than real ones" in text.split("\n\n")[3]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert ".badge.contradicted" in style
