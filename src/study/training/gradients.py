"""Gradient similarities of a run: who is sampled, and the file that holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from study.artefacts.files import writing
from study.context.params import GradientsParams
from study.data.scenarios.scenario import Scenario
from study.training.similarity import GradientSimilarity, doubling
from turnover.batches.examples import Examples


def sample_ids(scenario: Scenario, count: int) -> np.ndarray:
    """Ids [count] in ascending order, the same for every run of a scenario: half of them with random labels where there
    are enough of both kinds, else as many of the rarer kind as there are. All, if there are no more than `count`."""
    trained = scenario.of("train")
    is_random = trained["is_random"].to_numpy(bool)
    ids = trained["id"].to_numpy()
    rng = np.random.default_rng(0)
    kinds = [rng.permutation(ids[chosen]) for chosen in (is_random, ~is_random)]
    rare, common = sorted(kinds, key=len)
    half = min(len(rare), count // 2)
    return np.sort(np.concatenate([rare[:half], common[: count - half]]))


def watch_gradients(
    scenario: Scenario, trained: Examples, settings: GradientsParams, epochs: int
) -> GradientSimilarity:
    """The recorder of a run; `trained` holds the scenario's training examples on the device that trains."""
    chosen = torch.from_numpy(sample_ids(scenario, settings.examples)).to(trained.ids)
    return GradientSimilarity(trained[torch.isin(trained.ids, chosen)], doubling(epochs), settings.layers)


def save_similarity(path: Path, recorder: GradientSimilarity) -> None:
    """Write ids [n], epochs [e], and cosine similarities float16 [e, n(n-1)/2] of every kind of network."""
    # Not .npz: what its zip headers say depends on the version of Python.
    values = {
        "ids": recorder.sample.ids.cpu(),
        "epochs": torch.tensor(recorder.epochs, dtype=torch.int32),
        "exposed": recorder.pairs("exposed"),
        "full": recorder.pairs("full"),
    }
    with writing(path) as beside:
        save_file({name: value.contiguous() for name, value in values.items()}, beside)
