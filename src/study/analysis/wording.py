"""What is said of the seeds, in figures, summary and report alike."""

from __future__ import annotations

from collections.abc import Mapping


def seeds_in_words(seeds: Mapping[str, list[int]]) -> str:
    """How many seeds the placements have, such as ``3 seeds`` or ``5 seeds for placement head, 3 for the others``."""
    (first, most), *others = ((placement, len(of)) for placement, of in seeds.items())
    counts = {count for _, count in others}
    words = "one seed" if most == 1 else f"{most} seeds"
    if counts <= {most}:
        return words
    if len(counts) == 1 and len(others) > 1:
        return f"{words} for placement {first}, {counts.pop()} for the others"
    return f"{words} for placement {first}, " + ", ".join(f"{count} for {placement}" for placement, count in others)


def difficulty_from(seeds: Mapping[str, list[int]]) -> str:
    """Whose memorization says who is difficult, by the seeds of the placements."""
    alone = [placement for placement, of in seeds.items() if len(of) == 1]
    if not alone:
        return "the other seeds"
    if len(alone) == len(seeds):
        return "the only seed itself"
    return f"the other seeds (of placement {' and '.join(alone)}, the only seed itself)"
