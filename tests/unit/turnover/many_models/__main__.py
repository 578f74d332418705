"""Which networks take turn-over dropout, and which are refused why: writes docs/models.md."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import torch

from tests.support import ROOT
from tests.unit.turnover.many_models.networks import MODELS
from tests.unit.turnover.many_models.trying import Outcome, tried

DOCUMENT = ROOT / "docs" / "models.md"
LIBRARIES = ("torch", "torchvision", "timm", "transformers")


def document(outcomes: Sequence[Outcome]) -> str:
    """Markdown, from the outcomes of `MODELS`."""
    lines = [
        "# Networks that were tried",
        "",
        "Each was built without weights, got masks in front of its head by `insert(replace_batch_norm(network))`,",
        "trained a step, was scored by `memorization` and gave the masks back by `remove`. Every score was held",
        "against masks multiplied by hand, and with all units masked the logits had to be the same for all examples.",
        f"Versions: {', '.join(f'{name} {version(name)}' for name in LIBRARIES)}.",
        "",
        "`python -m tests.unit.turnover.many_models` writes this page, in a minute; a test tries all of it.",
        "",
        "## Those that work",
        "",
        "| library | network | BatchNorm layers replaced | masked: what enters | units |",
        "|---|---|--:|---|--:|",
    ]
    refused = []
    for model, outcome in zip(MODELS, outcomes, strict=True):
        if outcome.refusal is None:
            replaced = outcome.norms or "none"
            lines.append(f"| {model.library} | {model.name} | {replaced} | `{outcome.masked}` | {outcome.units} |")
        else:
            cure = f"{outcome.cure} ({outcome.units} units)" if outcome.cure else "nothing"
            refused.append(f"| {model.library} | {model.name} | {outcome.refusal} | {cure} |")
    lines += [
        "",
        "## Those that are refused",
        "",
        "Before a wrong number is given, with these words; and what then works.",
        "",
    ]
    lines += ["| library | network | refusal | works with |", "|---|---|---|---|", *refused]
    return "\n".join(lines) + "\n"


def main() -> None:
    torch.set_num_threads(1)  # batches of six images keep no second core busy
    outcomes = []
    for model in MODELS:
        outcomes.append(tried(model))
        print(f"{model.library:12}  {model.name:40}  {outcomes[-1].refusal or 'works'}"[:150], flush=True)
    DOCUMENT.write_text(document(outcomes))
    print(f"written: {DOCUMENT}")


if __name__ == "__main__":
    main()
