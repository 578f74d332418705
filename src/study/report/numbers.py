"""How report and README write numbers, intervals and p-values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: float, digits: int = 3) -> str:
    """A number with a real minus sign, and no minus before a zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """The same with a plus where it is not below 0."""
    text = plain(value, digits)
    return text if text.startswith("−") else f"+{text}"


def pm(entry: dict[str, Any] | None, digits: int = 3, scale: float = 1.0, sign: bool = False) -> str:
    """A mean with its interval, such as ``0.912 ± 0.004``; without one where there is one seed only."""
    if entry is None:
        return "–"
    text = (signed if sign else plain)(entry["mean"] * scale, digits)
    if entry["half_width"] is None:
        return text
    return f"{text} ± {plain(entry['half_width'] * scale, digits)}"


def brackets(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval with a space before it, such as `` [−0.012, 0.300]``; nothing without ends."""
    return "" if low is None or high is None else f" [{plain(low, digits)}, {plain(high, digits)}]"


def measured(row: dict[str, Any], key: str) -> str:
    """A score with its interval, as the validation's tables hold them in columns of their own."""
    value = row.get(key)
    return "–" if value is None else plain(value) + brackets(row.get(f"{key}_low"), row.get(f"{key}_high"))


def effect(of: Mapping[str, Any]) -> str:
    """An effect of `findings.json` or `effects.csv` with its interval, without its unit."""
    if of["mean"] is None:
        return "–"
    digits = 4 if of["unit"] == "cosine" else 1 if abs(of["mean"]) >= 10 else 3
    return signed(of["mean"], digits) + brackets(of["low"], of["high"], digits)


def p_value(p: float | None) -> str:
    """A p-value as people write it."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
