"""What report and README open with: three sentences and the table of the claims, all from `findings.json`.

A stranger should understand the sentences: what was done, what holds, what does not. They follow the verdicts, and
state a number only where its interval leaves out 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from study.report.numbers import brackets, effect, plain

TITLE = "What neural networks memorize"
LIMIT = 120  # words, with the title, before the table
# As their makers write them; any other data set is called what params.yaml calls it.
_NAMES = {
    "fashion-mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
}


class _Words(NamedTuple):
    """A claim in words that need no protocol: if it is supported, if it is contradicted, and as a question."""

    supported: str  # with a place for the number
    contradicted: str
    question: str


_CLAIMS = {
    "P1": _Words(
        "real images are learned {} than wrongly labelled ones",
        "wrongly labelled images are learned faster than real ones",
        "whether real images are learned faster than wrongly labelled ones",
    ),
    "P2": _Words(
        "real and wrongly labelled images are learned together, from the first epoch on",
        "real and wrongly labelled images are learned one after the other",
        "whether real and wrongly labelled images are learned together",
    ),
    "P3": _Words(
        "the least memorized (easy) real images are learned {} than the most memorized (difficult) ones",
        "the most memorized (difficult) real images are learned faster than the least memorized (easy) ones",
        "whether the least memorized (easy) real images are learned faster than the most memorized (difficult) ones",
    ),
    "P4": _Words(
        "networks retrained without the most memorized images predict new ones worse{} than without others",
        "the most memorized images tell networks less than others",
        "whether the most memorized images tell networks more than others",
    ),
}


def dataset_name(dataset: str) -> str:
    return _NAMES.get(dataset, dataset)


def literal(text: str) -> str:
    """Text that a user chose, for Markdown: none of its characters means anything."""
    return re.sub(r"([\\`*_{}\[\]<>|~&$#!])", r"\\\1", " ".join(text.split()))


def sentences(
    findings: Mapping[str, Any], summary: Mapping[str, Any], written: Callable[[str], str] = str
) -> list[str]:
    """What was done, what holds, what does not hold or is undecided.

    Args:
        findings: as `findings.json` holds them.
        summary: as `summary.json` does: the data set and its sizes.
        written: how the name of the data set is written.
    """
    return [_done(findings, summary, written), _holds(findings["claims"]), _open(findings["claims"])]


def of_suspects(
    suspects: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], written: Callable[[str], str] = str
) -> list[str]:
    """On one's own data: what the images below are.

    Args:
        suspects: rows of `suspects.csv`.
        summary, written: as for `sentences`.
    """
    first = summary["scenarios"][suspects[0]["scenario"]]
    return [
        f"Of {first['train']:,} training examples of {written(dataset_name(first['dataset']))} these are the "
        f"{len(suspects)} whose labels are least supported: the examples that are most like them have other labels. "
        "The first are the likeliest to be wrong.",
        "The percentage is the share of its label among like examples. The command turnover audit suggests labels, "
        "says how many are wrong, and judges examples that were held out here, too.",
    ]


def _done(findings: Mapping[str, Any], summary: Mapping[str, Any], written: Callable[[str], str]) -> str:
    scenarios = summary["scenarios"]
    first = next(iter(scenarios.values()))
    networks = len(next(iter(findings["seeds"].values())))
    counted = f"{networks} network{'s' if networks > 1 else ''} per experiment"
    images = f"{first['train']:,} {written(dataset_name(first['dataset']))} images"
    noisy = [f"{of['random'] / of['train']:.0%}".replace("%", " %") for of in scenarios.values() if of["random"]]
    labels = f"; one experiment has {noisy[0]} random labels" if noisy else ""
    return (
        "Half of every network never sees a given image, so comparing the halves shows what was memorized "
        f"({counted}, {images}{labels})."
    )


def _holds(claims: Sequence[Mapping[str, Any]]) -> str:
    found = [_supported(claim) for claim in claims if claim["verdict"] == "supported"]
    if found:
        return f"Supported: {'; '.join(found)}."
    if not claims:
        return "None of the four claims could be tested here."
    if claims[0]["seeds"] == 1:
        return "Of one network per experiment, nothing can be said about others."
    return "No claim is supported."


def _supported(claim: Mapping[str, Any]) -> str:
    """A supported claim, with its plain number where the interval of that leaves out 0 on the claim's side."""
    found, words = claim["plain"], _CLAIMS[claim["key"]].supported
    if claim["key"] == "P4":
        sure = found["high"] is not None and found["high"] < 0
        return words.format(f" ({plain(-found['mean'], 1)} points of accuracy)" if sure else "")
    sure = found["low"] is not None and found["low"] > 0
    return words.format(f"{plain(found['mean'], 1)} epochs earlier" if sure else "faster")


def _open(claims: Sequence[Mapping[str, Any]]) -> str:
    verdicts = {claim["key"]: claim["verdict"] for claim in claims}
    contradicted = [of.contradicted for key, of in _CLAIMS.items() if verdicts.get(key) == "contradicted"]
    undecided = [of.question for key, of in _CLAIMS.items() if verdicts.get(key) == "undecided"]
    untested = [of.question for key, of in _CLAIMS.items() if key not in verdicts]
    named = (("Contradicted", contradicted), ("Undecided", undecided), ("Not tested", untested))
    parts = [f"{name}: {'; '.join(of)}" for name, of in named if of]
    limits = [text for claim in claims if claim["key"] == "P4" for text in _limits(claim)]
    if limits:
        parts.append(f"But {', and '.join(limits)}")
    return f"{'. '.join(parts)}." if parts else "Nothing is contradicted or undecided."


def _limits(claim: Mapping[str, Any]) -> Iterator[str]:
    """What the retrained networks do not show, or what speaks against a hasty reading of P4."""
    lost, alone, who = claim["plain"], claim["more"]["alone"], "the most memorized"
    if claim["verdict"] == "supported" and lost["low"] is not None and lost["low"] <= 0 <= lost["high"]:
        found = f"{plain(lost['mean'], 1)} points{brackets(lost['low'], lost['high'], 1)}"
        yield f"accuracy without {who} is not clearly lower ({found})"
        who = "they"
    if alone is not None and alone["high"] is not None and alone["high"] < 0:
        yield f"alone, {who} teach less than random ones ({plain(alone['mean'], 1)} points of accuracy)"


class Row(NamedTuple):
    """A line of the table of the claims."""

    key: str
    title: str
    verdict: str
    plain: str  # the effect in a plain unit, with its interval
    tested: str  # the effect that the verdict is about


def rows(findings: Mapping[str, Any]) -> list[Row]:
    return [
        Row(
            claim["key"],
            claim["title"],
            claim["verdict"],
            _in_words(claim["plain"]),
            f"{effect(claim)} {claim['unit']}",
        )
        for claim in findings["claims"]
    ]


# Unit of a plain effect -> decimals, words if it is above 0, words if it is below.
_UNITS = {
    "epochs later": (1, "epochs earlier", "epochs later"),
    "% likelier after one epoch": (0, "% likelier after one epoch", "% less likely after one epoch"),
    "points of accuracy": (1, "points of accuracy gained", "points of accuracy lost"),
}


def _in_words(of: Mapping[str, Any]) -> str:
    """A plain effect without a sign, such as ``4.4 epochs earlier [3.9, 4.9]``."""
    digits, above, below = _UNITS[of["unit"]]
    if of["mean"] >= 0:
        return f"{plain(of['mean'], digits)} {above}{brackets(of['low'], of['high'], digits)}"
    low, high = (None if end is None else -end for end in (of["high"], of["low"]))
    return f"{plain(-of['mean'], digits)} {below}{brackets(low, high, digits)}"


def markdown(findings: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The sentences and the table, as report.md and README hold them."""
    text = "\n\n".join(emphasized(sentence, "**{}**") for sentence in sentences(findings, summary, literal))
    found = rows(findings)
    if not found:
        return text
    lines = [
        f"| | Claim | Verdict | Effect [{findings['confidence']:.0%} interval] | As tested |".replace("%", " %"),
        "|---|---|---|---|---|",
        *(f"| {row.key} | {row.title} | **{row.verdict}** | {row.plain} | {row.tested} |" for row in found),
    ]
    return text + "\n\n" + "\n".join(lines)


def emphasized(sentence: str, mark: str) -> str:
    """The verdicts in a sentence, each inside of `mark`."""
    return re.sub(r"(Supported|Contradicted|Undecided|Not tested):", lambda found: mark.format(found[0]), sentence)
