"""Fill the templates in. Every number in the prose comes from `summary.json` through a filter of this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from study.report.content import Content
from study.report.svg import inline

_TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = {
    "claims": "The claims",
    "curves": "Learning curves",
    "memorization": "Memorization",
    "detection": "Finding wrong labels",
    "cost": "What it costs in accuracy",
    "influence": "What easy and difficult examples do for others",
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


def learned(entry: dict[str, Any] | None, seeds: int) -> str:
    """The epoch at which a group was learned, saying so where some or all of the seeds never did."""
    if entry is None:
        return "never"
    return pm(entry, 1) if entry["n"] == seeds else f"{plain(entry['mean'], 1)} ({entry['n']} of {seeds} seeds)"


def findings(head: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None, str]]:
    """Title, claim and name of the sentence in `words.j2` of everything that can be said about a placement."""
    kind = "real" if "real easy" in head["groups"] else "random"
    claims = head["claims"]
    found: list[tuple[str, dict[str, Any] | None, str]] = []
    for title, key, text in (
        ("Easy and difficult examples are learned at the same time.", f"{kind}_together", "together"),
        ("The easy ones are learned faster.", f"{kind}_easy_faster", "easy_faster"),
        ("A correct difficult example tells more than an easy one.", "real_difficult_tell_more", "tell_more"),
        ("A random label harms.", "random_harm", "harm"),
    ):
        if claims.get(key):
            found.append((title, claims[key], text))
    if "placebo" in head["memorization"]["probability"]:
        found.append(("The null.", None, "placebo"))
    return [*found, ("The price.", None, "cost")]


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
        learned=lambda entry: learned(entry, len(content.summary["seeds"])),
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
    absent = {key for key, there in (("detection", detected), ("mistakes", content.mistakes)) if not there}
    head = scenario["placements"][shown["placement"]]
    return {
        "content": content,
        "summary": summary,
        "scenarios": summary["scenarios"],
        "shown": shown,
        "main": scenario,
        "head": head,
        "findings": findings(head),
        "placements": list(scenario["placements"]),
        "seeds": len(summary["seeds"]),
        "detected": detected,
        "sections": [(key, title) for key, title in SECTIONS.items() if key not in absent],
    }
