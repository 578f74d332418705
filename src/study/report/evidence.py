"""The claims in words: verdicts, effects and p-values from `findings.json`, and what the opening says about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TITLES = {1: "together, the easy ones faster", 2: "a correct difficult example tells more than an easy one"}
_VERDICTS = ("supported", "mixed", "not supported", "contradicted", "undecided")


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
