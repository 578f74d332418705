"""One process of `torchrun`: summarize without and with a store, and save what it got. Argument: a folder."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist

from tests.unit.turnover.attribution.networks import CLASSES, examples, network
from turnover.attribution.store import ScoreStore
from turnover.attribution.summary import summarize


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    models, ids, (x, y) = [network("head", seed=s) for s in (0, 1)], torch.arange(50) * 3, examples(41)
    near = examples(50, seed=7)[0]
    for name, store, estimate in (
        ("plain", None, "localized"),
        ("stored", ScoreStore(folder / "store"), "localized"),
        ("pooled", None, "pooled"),
    ):
        found = summarize(
            models, ids, ids % CLASSES, x, y, top=7, top_targets=5, store=store, localized=near, estimate=estimate
        )
        torch.save(asdict(found), folder / f"{name}-{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
