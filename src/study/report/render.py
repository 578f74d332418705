"""Fill the templates in. Every number in the prose comes from `findings.json` or `summary.json` through a filter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from study.analysis.intervals import seeds_in_words
from study.report.content import Content
from study.report.svg import inline

TITLES = {1: "together, the easy ones faster", 2: "a correct difficult example tells more than an easy one"}
_VERDICTS = ("supported", "mixed", "not supported", "contradicted", "undecided")
_TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = {
    "claims": "The claims",
    "claim-1": "Claim 1: together, the easy ones faster",
    "claim-2": "Claim 2: a correct difficult example tells more",
    "memorization": "Memorization",
    "detection": "Finding wrong labels",
    "validation": "The estimates against retraining, beside other estimators",
    "cost": "What it costs in accuracy",
    "gallery": "The most memorized examples",
    "mistakes": "Mistakes, and the training examples behind them",
    "settings": "Settings",
    "repeat": "Repeat it",
}
SCORE_NAMES = {
    "loss_flipped": "loss, flipped sub-network",
    "memorization_loss": "memorization (loss)",
    "memorization_probability": "memorization (probability)",
    "loss_full": "loss, full network",
}


def render_html(content: Content) -> str:
    """The page, with figures, images and style inside it."""
    environment = _environment(content, escape=True)
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))

    def figure(name: str, alt: str) -> Markup:
        return inline((content.figures / f"{name}.svg").read_text(encoding="utf-8"), name, alt)

    return environment.get_template("index.html.j2").render(**_names(content), figure=figure, style=style)


def render_markdown(content: Content) -> str:
    """The same for a reader of plain text; figures are links to the PNG files."""
    return _environment(content, escape=False).get_template("report.md.j2").render(**_names(content))


def plain(value: float, digits: int = 3) -> str:
    """A number with a real minus sign, and no minus before a zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def pm(entry: dict[str, Any] | None, digits: int = 3, scale: float = 1.0, sign: bool = False) -> str:
    """A mean with its interval, such as ``0.912 ± 0.004``; without one where there is one seed only."""
    if entry is None:
        return "–"
    text = plain(entry["mean"] * scale, digits)
    if sign and not text.startswith("−"):
        text = f"+{text}"
    if entry["half_width"] is None:
        return text
    return f"{text} ± {plain(entry['half_width'] * scale, digits)}"


def measured(row: dict[str, Any], key: str) -> str:
    """A score with its interval, as the validation's tables hold them in columns of their own."""
    value, low, high = (row.get(name) for name in (key, f"{key}_low", f"{key}_high"))
    if value is None:
        return "–"
    return plain(value) if low is None or high is None else f"{plain(value)} [{plain(low)}, {plain(high)}]"


def p_value(p: float | None) -> str:
    """A p-value as people write it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_words(p: float | None) -> str:
    """The same in a sentence: ``p < 0.001``, ``p = 0.012``; nothing without one."""
    if p is None:
        return ""
    value = p_value(p)
    return f"p {value}" if value.startswith("<") else f"p = {value}"


def digits(part: dict[str, Any]) -> int:
    """Decimals for the effect of a comparison."""
    if part["unit"] == "cosine":
        return 4
    return 1 if abs(part["effect"]["mean"]) >= 10 else 3


def of_number(findings: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """The entries of one of the two claims."""
    return [claim for claim in findings["claims"] if claim["claim"] == number]


def by_verdict(findings: dict[str, Any], number: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The entries of one claim by verdict, those without any left out."""
    for verdict in _VERDICTS:
        found = [claim for claim in of_number(findings, number) if claim["verdict"] == verdict]
        if found:
            yield verdict, found


def where(part: dict[str, Any]) -> str:
    """The setting of a comparison in words."""
    words = [f"scenario {part['scenario']}"]
    words.append("retrained" if part["placement"] == "retrained" else f"placement {part['placement']}")
    if part["definition"]:
        words.append(f"difficulty by {part['definition']}")
    return ", ".join(words)


def _environment(content: Content, *, escape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        pm=pm,
        plain=plain,
        points=lambda entry: pm(entry, digits=2, scale=100, sign=True),
        percent=lambda value: f"{100 * value:.0f} %",
        share=lambda entry: "–" if entry is None else f"{100 * entry['mean']:.0f} %",
        p=p_value,
        pwords=p_words,
        where=where,
        effect=lambda part: pm(part["effect"], digits(part), sign=True),
        seconds=lambda value: "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}",
        thousands=lambda value: f"{value:,}",
        score=lambda key: SCORE_NAMES.get(key, key.replace("_", " ")),
    )
    return environment


def _names(content: Content) -> dict[str, Any]:
    """What the templates call things."""
    summary = content.summary
    shown = summary["shown"]
    scenario = summary["scenarios"][shown["scenario"]]
    detected = [name for name in summary["scenarios"] if content.has(f"detection-{name}.svg")]
    optional = (("detection", detected), ("mistakes", content.mistakes), ("validation", content.validations))
    absent = {key for key, there in optional if not there}
    head = scenario["placements"][shown["placement"]]
    return {
        "content": content,
        "summary": summary,
        "scenarios": summary["scenarios"],
        "shown": shown,
        "main": scenario,
        "head": head,
        "findings": content.findings,
        "claim_titles": TITLES,
        "claims_of": lambda number: of_number(content.findings, number),
        "by_verdict": lambda number: list(by_verdict(content.findings, number)),
        "groups": [entry for entry in content.groups if entry["definition"] == content.findings["definitions"][0]],
        "placements": list(scenario["placements"]),
        "masked_seeds": {placement: summary["seeds"][placement] for placement in scenario["placements"]},
        "shown_seeds": {shown["placement"]: summary["seeds"][shown["placement"]]},
        "in_words": seeds_in_words,
        "detected": detected,
        "measured": measured,
        "sections": [(key, title) for key, title in SECTIONS.items() if key not in absent],
    }
