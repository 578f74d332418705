"""From comparisons to verdicts: what `findings.json` says about each claim.

A claim is a statement about several settings (scenario, placement, definition of difficulty), and holds only if it
holds in each of them. So its p-value is the largest of theirs (an intersection-union test), corrected by Holm over the
claims: it is supported if that is below 1 - confidence and every interval over the seeds lies above 0. It is
contradicted if the same holds in the opposite direction.

A comparison of a claim that is neither stands alone: it holds if its own p-value, times the number of claims
(Bonferroni), is below 1 - confidence and its interval lies above 0. None holds: not supported. Some: mixed. With one
seed everything is undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from study.analysis.intervals import Interval, intervals
from study.findings.testing import Comparison, holm

_SUPPORTED, _CONTRADICTED, _MIXED = "supported", "contradicted", "mixed"
_NOT, _UNDECIDED = "not supported", "undecided"


@dataclass(frozen=True)
class Claim:
    """One of the statements that are tested; `number` is that of the claim it belongs to."""

    key: str
    number: int
    title: str


CLAIMS = (
    Claim("together_real", 1, "Difficult real examples are optimized from the first epoch on"),
    Claim("together_random", 1, "Randomly labelled examples, too, are optimized from the first epoch on"),
    Claim("memorized_real", 1, "Difficult real examples are memorized from the first epoch on"),
    Claim("memorized_random", 1, "Randomly labelled examples are memorized from the first epoch on"),
    Claim("faster_real", 1, "Among real labels, easy examples are optimized faster than difficult ones"),
    Claim("faster_random", 1, "Among random labels, easy examples are optimized faster than difficult ones"),
    Claim("aligned_real", 1, "Gradients of easy real examples agree more than those of shuffled groups"),
    Claim("aligned_random", 1, "Gradients of easy randomly labelled examples agree more than those of shuffled groups"),
    Claim("tell_more", 2, "By estimated influence, a correct difficult example tells more than an easy one"),
    Claim("removal", 2, "Without the difficult examples accuracy falls more than without easy ones or random ones"),
    Claim("removal_loss", 2, "Without the difficult examples the loss rises more than without easy or random ones"),
    Claim("keeping", 2, "Kept alone, the difficult examples teach more than easy or random ones, by accuracy"),
    Claim("keeping_loss", 2, "Kept alone, the difficult examples teach more than easy or random ones, by loss"),
    Claim(
        "turns_round",
        2,
        "With wrong labels it turns round: removing the most memorized costs less accuracy than others",
    ),
    Claim(
        "turns_round_loss",
        2,
        "With wrong labels it turns round: removing the most memorized leaves a lower loss than others",
    ),
    Claim("cleansing", 2, "Dropping what the estimates flag as mislabelled gains accuracy over dropping at random"),
    Claim(
        "cleansing_loss",
        2,
        "Dropping what the estimates flag as mislabelled lowers the loss against dropping at random",
    ),
    Claim("random_harm", 2, "A randomly labelled example harms, by its estimated influence"),
)


def judge(comparisons: Sequence[Comparison], confidence: float) -> list[dict[str, Any]]:
    """An entry of `findings.json` for each claim that something was compared for, in the order of `CLAIMS`."""
    found = intervals([part.effects for part in comparisons], confidence)
    parts: dict[str, _Parts] = {}
    for part, of in zip(comparisons, found, strict=True):
        parts.setdefault(part.claim, []).append((part, of))
    judged = {claim: parts[claim.key] for claim in CLAIMS if claim.key in parts}
    level = 1.0 - confidence
    above, below = _adjusted(judged, "p"), _adjusted(judged, "p_below")
    tested = max(1, len(above))
    return [_entry(claim, of, above.get(claim), below.get(claim), tested, level) for claim, of in judged.items()]


def overall(entries: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The verdict on each of the two claims as a whole, from its statements': the same where all agree, else mixed."""
    found = {}
    for number in dict.fromkeys(of["claim"] for of in entries):
        verdicts = {of["verdict"] for of in entries if of["claim"] == number}
        found[str(number)] = verdicts.pop() if len(verdicts) == 1 else _MIXED
    return found


_Parts = list[tuple[Comparison, Interval]]


def _adjusted(claims: Mapping[Claim, _Parts], which: Literal["p", "p_below"]) -> dict[Claim, float]:
    """The largest p-value of each claim, corrected by Holm over the claims; a claim without a p-value has none."""
    largest: dict[Claim, float] = {}
    for claim, parts in claims.items():
        values = [getattr(part, which) for part, _ in parts]
        if None not in values:
            largest[claim] = max(values)
    factors = dict(zip(largest, holm(list(largest.values())), strict=True))
    adjusted: dict[Claim, float] = {}
    running = 0.0
    for claim in sorted(largest, key=lambda claim: -factors[claim]):
        running = max(running, min(1.0, largest[claim] * factors[claim]))  # Holm: never below the ones before
        adjusted[claim] = running
    return adjusted


def _entry(
    claim: Claim, parts: _Parts, above: float | None, below: float | None, claims: int, level: float
) -> dict[str, Any]:
    supported = above is not None and above < level and all(_lies(found, 1) for _, found in parts)
    contradicted = below is not None and below < level and all(_lies(found, -1) for _, found in parts)
    # Such a claim is a closed test: with it every part of it is supported (or contradicted), at the claim's own
    # corrected p.
    whole = _SUPPORTED if supported else _CONTRADICTED if contradicted else None
    entries = [_part(part, found, whole, above, claims, level) for part, found in parts]
    verdicts = [entry["verdict"] for entry in entries]
    of_parts = _UNDECIDED if _UNDECIDED in verdicts else _MIXED if _SUPPORTED in verdicts else _NOT
    return {
        "claim": claim.number,
        "key": claim.key,
        "title": claim.title,
        "verdict": whole or of_parts,
        "holds": verdicts.count(_SUPPORTED),
        "opposite": verdicts.count(_CONTRADICTED),
        "of": len(parts),
        "p": max((part.p for part, _ in parts if part.p is not None), default=None),
        "p_holm": above,
        "p_holm_opposite": below,
        "seeds": min(found.n for _, found in parts),
        "tests": list(dict.fromkeys(part.test for part, _ in parts)),
        "main": entries[0],
        "comparisons": entries,
    }


def _lies(found: Interval, side: int) -> bool:
    """Whether the t-interval over the seeds lies above 0 (`side` 1) or below it (-1); never with one seed."""
    return found.half_width is not None and (found.low > 0 if side > 0 else found.high < 0)


def _part(
    part: Comparison, found: Interval, whole: str | None, of_claim: float | None, claims: int, level: float
) -> dict[str, Any]:
    """An entry for a comparison; `whole`: the verdict of its claim, where that decides; `of_claim`: its corrected p."""

    def holds(p: float | None, side: int) -> bool:
        return p is not None and p * claims < level and _lies(found, side)

    if found.half_width is None:
        verdict = _UNDECIDED
    else:
        verdict = whole or (_SUPPORTED if holds(part.p, 1) else _CONTRADICTED if holds(part.p_below, -1) else _NOT)
    corrected = None if part.p is None else min(1.0, part.p * claims)
    return {
        "scenario": part.scenario,
        "placement": part.placement,
        "definition": part.definition,
        "text": part.of,
        "unit": part.unit,
        "effect": found.entry,
        "low": None if found.half_width is None else found.low,
        "high": None if found.half_width is None else found.high,
        "seeds": found.n,
        "examples": part.examples,
        "test": part.test,
        "p": part.p,
        "p_corrected": of_claim if whole == _SUPPORTED else corrected,
        "verdict": verdict,
    }
