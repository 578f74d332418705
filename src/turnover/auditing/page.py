"""The page of an audit: suspects first, each with its picture and the neighbours that disagree; one file, offline."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import torch

from turnover.auditing.evidence import Evidence
from turnover.auditing.suspicion import Suspicion
from turnover.auditing.tables import listed_suspects, neighbours_of
from turnover.serving.pictures import address

_LEAST = 50  # labels that are shown, however few are suspects
_NEIGHBOURS = 4
_MEMORIZED = 40
_PAIRS = 60


def page(prepared: Any, result: Any, evidence: Evidence, found: Suspicion) -> str:
    """The whole page as text.

    Args:
        prepared: `turnover.auditing.audits.Prepared`.
        result: `turnover.auditing.audits.Audit`.
        evidence, found: what it was made of.
    """
    inputs, labels = prepared.inputs, torch.from_numpy(prepared.inputs.labels)
    order = found.score.argsort(descending=True, stable=True)
    count = min(len(inputs), prepared.settings.suspects, max(_LEAST, listed_suspects(found)))
    shown = order[:count].tolist()
    near = neighbours_of(evidence, shown, labels, _NEIGHBOURS)
    place = {name: number for number, name in enumerate(inputs.names)}
    memorized = [place[name] for name in result.memorized["name"].head(_MEMORIZED)]
    pairs = result.duplicates.head(_PAIRS)
    twice = [[place[row["name"]], place[row["other"]], row["kind"]] for row in pairs.to_dict("records")]
    wanted = sorted(
        {*shown, *(number for row in near for number in row), *memorized, *(n for t in twice for n in t[:2])}
    )
    about = {
        "place": inputs.place,
        "summary": dict(result.summary),
        "notices": list(result.notices),
        "classes": list(inputs.classes),
        "listed": listed_suspects(found),
        "examples": {
            str(number): {
                "name": inputs.names[number],
                "label": int(labels[number]),
                "picture": address(prepared.data[number].numpy()) if prepared.data.dim() == 4 else "",
            }
            for number in wanted
        },
        "suspects": [
            {
                "example": number,
                "suggested": int(found.suggested[number]),
                "probability": round(float(found.probability[number]), 3),
                "wrong": round(float(found.wrong[number]), 3),
                "neighbours": others,
            }
            for number, others in zip(shown, near, strict=True)
        ],
        "memorized": memorized,
        "duplicates": twice,
        "perClass": result.classes.to_dict("records"),
    }
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    template = files("turnover.auditing").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("@@DATA@@", text)
