"""One process of `torchrun`: summarize, and save what it got. Arguments: folder, network, with store or not."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist

from tests.unit.turnover.attribution.networks import CLASSES, examples, network
from turnover.attribution.store import ScoreStore
from turnover.attribution.summary import summarize


def main(folder: Path, kind: str, stored: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    models, ids, (x, y) = [network(kind, seed=s) for s in (0, 1)], torch.arange(50) * 3, examples(41)
    store = ScoreStore(folder / "store") if stored else None
    near = examples(50, seed=7)[0]
    found = summarize(models, ids, ids % CLASSES, x, y, top=7, top_targets=5, store=store, localized=near)
    torch.save(asdict(found), folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "store")
