"""From comparisons to verdicts: what `findings.json` says about each claim.

A claim is a statement about several settings (scenario, placement, definition of difficulty), and holds only if it
holds in each of them. So its p-value is the largest of theirs (an intersection-union test), corrected by Holm over the
claims: it is supported if that is below 1 - confidence and every interval over the seeds lies above 0.

A comparison of a claim that is not supported stands alone: it holds if its own p-value, times the number of claims
(Bonferroni), is below 1 - confidence and its interval lies above 0. None holds: not supported. Some: mixed. With one
seed everything is undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from study.analysis.intervals import entry, interval
from study.findings.testing import Comparison, excludes_zero, holm


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
    parts = {claim.key: [part for part in comparisons if part.claim == claim.key] for claim in CLAIMS}
    found = [claim for claim in CLAIMS if parts[claim.key]]
    tested = [claim for claim in found if all(part.p is not None for part in parts[claim.key])]
    largest = [max(part.p for part in parts[claim.key] if part.p is not None) for claim in tested]
    factors = dict(zip([claim.key for claim in tested], holm(largest), strict=True))
    adjusted: dict[str, float] = {}
    running = 0.0
    for claim, p in sorted(zip(tested, largest, strict=True), key=lambda pair: -factors[pair[0].key]):
        running = max(running, min(1.0, p * factors[claim.key]))  # Holm: never below the ones before
        adjusted[claim.key] = running
    return [
        _entry(claim, parts[claim.key], adjusted.get(claim.key), max(1, len(tested)), confidence) for claim in found
    ]


def overall(entries: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The verdict on each of the two claims as a whole, from its statements': the same where all agree, else mixed."""
    found = {}
    for number in dict.fromkeys(of["claim"] for of in entries):
        verdicts = {of["verdict"] for of in entries if of["claim"] == number}
        found[str(number)] = verdicts.pop() if len(verdicts) == 1 else "mixed"
    return found


def _entry(
    claim: Claim, parts: list[Comparison], adjusted: float | None, claims: int, confidence: float
) -> dict[str, Any]:
    significant = adjusted is not None and adjusted < 1.0 - confidence
    supported = significant and all(excludes_zero(part.effects, confidence) for part in parts)
    # A supported claim is a closed test: with it every part of it is supported, at the claim's own corrected p.
    entries = [_part(part, adjusted if supported else None, claims, confidence) for part in parts]
    verdicts = [entry["verdict"] for entry in entries]
    if "undecided" in verdicts:
        verdict = "undecided"
    elif supported:
        verdict = "supported"
    else:
        verdict = "mixed" if "supported" in verdicts else "not supported"
    return {
        "claim": claim.number,
        "key": claim.key,
        "title": claim.title,
        "verdict": verdict,
        "holds": verdicts.count("supported"),
        "opposite": verdicts.count("contradicted"),
        "of": len(parts),
        "p": max((part.p for part in parts if part.p is not None), default=None),
        "p_holm": adjusted,
        "seeds": min(len(part.effects) for part in parts),
        "tests": list(dict.fromkeys(part.test for part in parts)),
        "main": entries[0],
        "comparisons": entries,
    }


def _part(part: Comparison, of_claim: float | None, claims: int, confidence: float) -> dict[str, Any]:
    """An entry for a comparison; `of_claim`: the corrected p of its claim, if that is supported."""
    found = interval(part.effects, confidence)
    corrected = of_claim

    def holds(p: float | None, below: bool) -> bool:
        return p is not None and p * claims < 1.0 - confidence and excludes_zero(part.effects, confidence, below=below)

    if corrected is None and part.p is not None:
        corrected = min(1.0, part.p * claims)
    if found.half_width is None:
        verdict = "undecided"
    elif of_claim is not None or holds(part.p, False):
        verdict = "supported"
    else:
        verdict = "contradicted" if holds(part.p_below, True) else "not supported"
    return {
        "scenario": part.scenario,
        "placement": part.placement,
        "definition": part.definition,
        "text": part.of,
        "unit": part.unit,
        "effect": entry(found),
        "low": None if found.half_width is None else found.low,
        "high": None if found.half_width is None else found.high,
        "seeds": found.n,
        "examples": part.examples,
        "test": part.test,
        "p": part.p,
        "p_corrected": corrected,
        "verdict": verdict,
    }
