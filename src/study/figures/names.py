"""Names of classes in pictures, whose font does not have every letter of the world."""

from __future__ import annotations

from functools import cache

FONT = "DejaVu Sans"  # comes with matplotlib: the same glyphs on every machine


def drawn_name(name: str, number: int) -> str:
    """What a picture calls the class: its name, or ``class 3`` where the font lacks a letter and would draw a box."""
    return name if all(ord(letter) in _letters() for letter in name) else f"class {number}"


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font  # late: the report draws nothing

    return frozenset(get_font(findfont(FONT)).get_charmap())
