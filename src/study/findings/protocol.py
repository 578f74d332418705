"""The four claims of docs/protocol.md, and the verdicts on them and on the two findings.

What is tested, how, and what makes a verdict was written down before the networks were trained: see there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from study.findings.effects import Effect

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Claim:
    """One of the four statements that are tested."""

    key: str
    finding: int  # the question that it belongs to
    name: str  # as headline.json knows it
    title: str


CLAIMS = (
    Claim("P1", 1, "easy_faster", "Real examples are learned faster than wrongly labelled ones"),
    Claim("P2", 1, "together", "Real and wrongly labelled examples are learned at the same time"),
    Claim("P3", 1, "easy_faster_real", "Among real examples, easy ones are learned faster than difficult ones"),
    Claim("P4", 2, "tell_more", "Correct difficult examples tell more than others"),
)


class Plain(NamedTuple):
    """An effect in a unit that needs no explanation; without ends where there is one seed."""

    mean: float
    low: float | None
    high: float | None
    unit: str


@dataclass(frozen=True)
class Evidence:
    """What was measured for a claim.

    Args:
        parts: the effects that all have to be above 0; the first one is the claim's effect.
        plain: the same thing in a plain unit.
        more: further numbers for the report, by name.
    """

    parts: tuple[Effect, ...]
    plain: Plain
    more: Mapping[str, Any]


def judge(evidence: Mapping[str, Evidence], confidence: float) -> list[dict[str, Any]]:
    """An entry of `findings.json` for each claim that there is evidence for, in the order of `CLAIMS`."""
    tested = [claim for claim in CLAIMS if claim.key in evidence]
    sided = [_sides(evidence[claim.key].parts) for claim in tested]
    p_values = [None if of is None else min(1.0, 2 * min(of)) for of in sided]
    corrected = holm(p_values)
    level = 1.0 - confidence
    entries = []
    for claim, sides, p, p_holm in zip(tested, sided, p_values, corrected, strict=True):
        verdict = UNDECIDED
        if sides is not None and p_holm is not None and p_holm < level:
            verdict = SUPPORTED if sides[0] <= sides[1] else CONTRADICTED
        found = evidence[claim.key]
        main = found.parts[0]
        entries.append(
            {
                "key": claim.key,
                "finding": claim.finding,
                "name": claim.name,
                "title": claim.title,
                "verdict": verdict,
                "p": p,
                "p_holm": p_holm,
                "smallest": main.detectable(level / len(CLAIMS)),
                **described(main, confidence),
                "plain": found.plain._asdict(),
                "parts": [described(part, confidence) for part in found.parts],
                "more": dict(found.more),
            }
        )
    return entries


def overall(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The verdict on each of the two findings: supported if all its claims are, contradicted if one is."""
    found = {}
    for number in dict.fromkeys(claim.finding for claim in CLAIMS):
        verdicts = [of["verdict"] for of in entries if of["finding"] == number]
        complete = len(verdicts) == sum(claim.finding == number for claim in CLAIMS)
        if CONTRADICTED in verdicts:
            found[str(number)] = CONTRADICTED
        else:
            found[str(number)] = SUPPORTED if complete and set(verdicts) == {SUPPORTED} else UNDECIDED
    return found


def plain(effect: Effect, unit: str, confidence: float, scale: float = 1.0) -> Plain:
    """An effect times `scale`, which is above 0."""
    ends = effect.interval(confidence)
    low, high = (None, None) if ends is None else (scale * ends[0], scale * ends[1])
    return Plain(scale * effect.mean, low, high, unit)


def described(effect: Effect, confidence: float) -> dict[str, Any]:
    """An effect as `findings.json` and `effects.csv` hold it."""
    low, high = effect.interval(confidence) or (None, None)
    return {
        "scenario": effect.of.scenario,
        "placement": effect.of.placement,
        "definition": effect.of.definition,
        "text": effect.of.text,
        "unit": effect.of.unit,
        "mean": effect.mean,
        "low": low,
        "high": high,
        "seeds": effect.seeds,
        "examples": effect.examples,
        "test": effect.test,
    }


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected by Holm's procedure over those that are there."""
    there = [at for at, p in enumerate(p_values) if p is not None]
    order = sorted(there, key=lambda at: p_values[at] or 0.0)
    corrected: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, at in enumerate(order):
        running = max(running, min(1.0, (p_values[at] or 0.0) * (len(order) - rank)))  # never below the ones before
        corrected[at] = running
    return corrected


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Overlap coefficient of two learning periods: 1 if both learn the same share in every epoch, 0 if never at once.

    Args:
        one, other: how far each has come at every recorded epoch, [seeds, epochs], growing; steps back do not count.

    Returns:
        [seeds].
    """
    shares = []
    for of in (one, other):
        steps = np.maximum(np.diff(of, axis=1), 0.0)
        shares.append(steps / np.maximum(steps.sum(1, keepdims=True), 1e-12))
    least: np.ndarray = np.minimum(*shares).sum(1)
    return least


def _sides(parts: Sequence[Effect]) -> tuple[float, float] | None:
    """One-sided p-values for "true" and for "false"; None with one seed.

    A claim is true if all its parts are (intersection-union), and false if one of them is (Bonferroni).
    """
    above, below = [part.p(1) for part in parts], [part.p(-1) for part in parts]
    if any(p is None for p in above):
        return None
    return max(p or 0.0 for p in above), min(1.0, len(parts) * min(p or 0.0 for p in below))
