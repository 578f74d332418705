"""A make-believe explorer with everything in it, and the oddest names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from turnover.exploring.explorer import Explorer

SCRIPT = "<script>alert(1)</script>"
CLASSES = ("cat", SCRIPT, "</script><img src=x onerror=alert(2)>", "a 'quoted' \"name\" & \u2028 more")
TRAIN, TARGETS, PLACEBOS, NETWORKS = 150, 90, 40, 4
EPOCHS = (0, 1, 2, 4, 8)


def make_explorer(**changes: Any) -> Explorer:
    """Everything there is: labels, scores, images in colour, curves, placebos, pairs; with `changes` of its fields."""
    rng = np.random.default_rng(0)
    original = rng.integers(0, len(CLASSES), TRAIN)
    given = np.where(np.arange(TRAIN) % 5 == 0, (original + 1) % len(CLASSES), original)
    training = pd.DataFrame(
        {
            "id": rng.permutation(TRAIN) + 1000,
            "given": given,
            "original": original,
            "kind": np.where(np.arange(TRAIN) % 5 == 0, "random label", "real label"),
            "memorization": rng.uniform(-0.2, 1.0, TRAIN),
            "memorization_se": rng.uniform(0.01, 0.1, TRAIN),
            "memorization_loss": rng.normal(2.0, 3.0, TRAIN),
            "suspicion": rng.uniform(0.0, 1.0, TRAIN),
        }
    )
    label = rng.integers(0, len(CLASSES), TARGETS)
    targets = pd.DataFrame(
        {
            "id": np.arange(TARGETS),
            "label": label,
            "predicted": np.where(np.arange(TARGETS) % 3 == 0, (label + 1) % len(CLASSES), label),
            "probability": rng.uniform(0.0, 1.0, TARGETS),
            "wrong_networks": rng.integers(0, NETWORKS + 1, TARGETS),
        }
    )
    influence = rng.normal(0.0, 1.0, (TRAIN, TARGETS))
    rows, columns = np.nonzero(np.abs(influence) > 1.2)
    pairs = pd.DataFrame(
        {
            "target": columns,
            "example": training["id"].to_numpy()[rows],
            "influence": influence[rows, columns],
            "influence_se": rng.uniform(0.1, 1.0, len(rows)),
            "agree": rng.integers(1, NETWORKS + 1, len(rows)),
        }
    )
    fields: dict[str, Any] = {
        "title": f"An {SCRIPT} audit",
        "classes": CLASSES,
        "training": training,
        "targets": targets,
        "pairs": pairs,
        "training_images": rng.integers(0, 256, (TRAIN, 3, 12, 9), dtype=np.uint8),
        "target_images": rng.integers(0, 256, (TARGETS, 3, 12, 9), dtype=np.uint8),
        "placebos": rng.normal(0.0, 0.2, PLACEBOS),
        "epochs": EPOCHS,
        "curves": {of: rng.uniform(0.0, 1.0, (TRAIN, len(EPOCHS))) for of in ("exposed", "flipped", "full")},
        "networks": NETWORKS,
        "about": [f"A sentence with {SCRIPT}."],
        "links": {"The suspects": "suspects.csv"},
    }
    return Explorer(**{**fields, **changes})
