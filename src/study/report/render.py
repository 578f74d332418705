"""Fill the templates in. Every number in the prose comes from `findings.json` or `summary.json` through a filter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from study.analysis.intervals import seeds_in_words
from study.figures.names import drawn_name
from study.report.content import Content
from study.report.numbers import effect, measured, p_value, plain, pm
from study.report.opening import TITLE, dataset_name, emphasized, literal, markdown, of_suspects, rows, sentences
from study.report.svg import inline
from study.report.variants import describe

_TEMPLATES = Path(__file__).parent / "templates"
# The first two stand open, below the findings; the others are folded.
SHOWN = {
    "gallery": "The most memorized examples",
    "mistakes": "Mistakes, and the training examples behind them",
}
FOLDED = {
    "statistics": "How the claims were tested",
    "learning": "How examples are learned",
    "telling": "What difficult examples are worth",
    "effects": "All effects",
    "variants": "The same in other settings",
    "memorization": "Memorization",
    "detection": "Finding wrong labels",
    "validation": "The estimates against retraining, beside other estimators",
    "cost": "What it costs in accuracy",
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
    environment = _environment(autoescape=True)
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))

    def figure(name: str, alt: str) -> Markup:
        return inline((content.figures / f"{name}.svg").read_text(encoding="utf-8"), name, alt)

    return environment.get_template("index.html.j2").render(**_names(content), figure=figure, style=style)


def render_markdown(content: Content) -> str:
    """The same for a reader of plain text; figures are links to the PNG files."""
    return _environment(autoescape=False).get_template("report.md.j2").render(**_names(content))


def where(effect: Mapping[str, Any]) -> str:
    """The setting of an effect in words."""
    words = [f"scenario {effect['scenario']}"]
    words.append("retrained" if effect["placement"] == "retrained" else f"placement {effect['placement']}")
    if effect["definition"]:
        words.append(f"difficulty by {effect['definition']}")
    return ", ".join(words)


def anchor(title: str) -> str:
    """What GitHub calls a heading in a link."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        pm=pm,
        plain=plain,
        effect=effect,
        points=lambda entry: pm(entry, digits=2, scale=100, sign=True),
        percent=lambda value: f"{100 * value:.0f} %",
        share=lambda entry: "–" if entry is None else f"{100 * entry['mean']:.0f} %",
        p=p_value,
        where=where,
        seconds=lambda value: "–" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}",
        thousands=lambda value: f"{value:,}",
        emphasized=lambda text: Markup(emphasized(str(escape(text)), "<strong>{}</strong>")),
        italics=lambda text: Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", str(escape(text)))),
        anchor=anchor,
        literal=str if autoescape else literal,
        cell=lambda text: text.replace("|", "\\|"),  # of a table in Markdown
        score=lambda key: SCORE_NAMES.get(key, key.replace("_", " ")),
    )
    return environment


def _numbered(images: list[dict[str, Any]]) -> dict[str, str]:
    """Of the classes in a gallery those that its picture calls by a number, with their names."""
    names = {row[of]: row[f"{of}_name"] for row in images for of in ("given", "original")}
    called = {number: drawn_name(names[number], number) for number in sorted(names)}
    return {called[number]: names[number] for number in called if called[number] != names[number]}


def _names(content: Content) -> dict[str, Any]:
    """What the templates call things."""
    summary = content.summary
    shown = summary["shown"]
    scenario = summary["scenarios"][shown["scenario"]]
    detected = [name for name in summary["scenarios"] if content.has(f"detection-{name}.svg")]
    own = bool(content.suspects)
    optional = (
        ("detection", detected),
        ("mistakes", content.mistakes),
        ("validation", content.validations and not own),
        ("variants", len(content.variants) and not own),
    )
    absent = {key for key, there in optional if not there} | ({"effects"} if own else set())
    titles = {"statistics": "What the words mean"} if own else {}
    head = scenario["placements"][shown["placement"]]
    return {
        "content": content,
        "summary": summary,
        "scenarios": summary["scenarios"],
        "shown": shown,
        "main": scenario,
        "head": head,
        "findings": content.findings,
        "title": "Labels to look at first" if own else TITLE,
        "dataset": dataset_name(scenario["dataset"]),
        "own": own,
        "numbered": _numbered([row for rows in content.gallery.values() for row in rows]),
        "sentences": of_suspects(content.suspects, summary) if own else sentences(content.findings, summary),
        "claims": [] if own else rows(content.findings),
        "opening": "\n\n".join(of_suspects(content.suspects, summary, literal))
        if own
        else markdown(content.findings, summary),
        "groups": [entry for entry in content.groups if entry["definition"] == content.findings["definitions"][0]],
        "variants": None if own else describe(content.variants),
        "placements": list(scenario["placements"]),
        "masked_seeds": {placement: summary["seeds"][placement] for placement in scenario["placements"]},
        "shown_seeds": {shown["placement"]: summary["seeds"][shown["placement"]]},
        "in_words": seeds_in_words,
        "detected": detected,
        "measured": measured,
        "shown_sections": {key: title for key, title in SHOWN.items() if key not in absent},
        "folded": {key: title for key, title in (FOLDED | titles).items() if key not in absent},
    }
