"""Averages over training, and sharpened memorization, against loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, logit

from tests.unit.turnover.scoring.test_memorization import examples, trained
from turnover import average_over_training, memorization, memorization_over_training, neighbourhood, sharpen
from turnover.batches.examples import Examples
from turnover.training.dynamics import Dynamics


def checkpoints() -> list[dict[str, torch.Tensor]]:
    return [trained(steps=steps).state_dict() for steps in (5, 40, 150)]


def test_average_is_the_mean_over_checkpoints() -> None:
    x, y, ids = examples()
    frame = memorization_over_training(trained(steps=1), checkpoints(), x, y, ids)
    found = average_over_training(frame)
    assert found["id"].tolist() == ids.tolist()
    for row in (0, 31, 89):
        at = frame[frame["id"] == int(ids[row])]
        chance = {of: np.exp(-at[f"loss_{of}"].to_numpy(np.float64)) for of in ("exposed", "flipped", "full")}
        expected = {
            **{name: at[name].mean() for name in ("loss", "probability", "accuracy", "loss_flipped", "loss_full")},
            **{f"probability_{of}": values.mean() for of, values in chance.items()},
            "contrast": np.mean(chance["exposed"] * (1 - 0.5 * chance["flipped"] - 0.5 * chance["full"])),
        }
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, abs=1e-6), name
    assert found["contrast"].std() > 0.01


def test_dynamics_give_the_same_as_checkpoints_without_the_untrained_network() -> None:
    x, y, ids = examples()
    states = checkpoints()
    dynamics, model = Dynamics(Examples(x, y, ids), [0, 1, 2, 3]), trained(steps=1)
    dynamics.record(0, model)
    for epoch, state in enumerate(states, start=1):
        model.load_state_dict(state)
        dynamics.record(epoch, model)
    expected = average_over_training(memorization_over_training(model, states, x, y, ids))
    pd.testing.assert_frame_equal(average_over_training(dynamics.frame()), expected, atol=1e-6)
    with_untrained = dynamics.frame().rename(columns={"epoch": "checkpoint"})
    assert not np.allclose(average_over_training(with_untrained)["loss"], expected["loss"], atol=1e-3)


def test_sharpened_is_one_newton_step_from_what_others_say() -> None:
    (x, y, ids), model = examples(), trained()
    x, y, ids = x[:60], y[:60], ids[:60]
    near = neighbourhood(model, x, y)
    frame = memorization_over_training(model, checkpoints(), x, y, ids)
    found = sharpen(average_over_training(frame), near)
    chance = {
        of: np.exp(-frame[f"loss_{of}"].to_numpy(np.float64)).reshape(3, 60) for of in ("exposed", "flipped", "full")
    }
    support, leverage = near["support"].to_numpy(), near["leverage"].to_numpy()
    others = (chance["flipped"] + chance["full"]) / 2

    def stepped(of_others: np.ndarray) -> np.ndarray:
        """The minimum over d of d^2 / (2 s) - log p(z + d), to second order from d = 0."""
        q = ((2 * of_others + support) / 3 + 1e-3) / (1 + 2e-3)
        s = 40 * leverage
        gradient, curvature = -(1 - q), 1 / s + q * (1 - q)
        return np.asarray(expit(logit(q) - gradient / curvature) - q)

    np.testing.assert_allclose(found["sharpened"], stepped(others.mean(0)), rtol=1e-4)
    last = sharpen(memorization(model, x, y, ids), near)
    np.testing.assert_allclose(last["sharpened"], stepped(others[2]), rtol=1e-3)
    assert found["sharpened"].between(0, 1).all()
    assert found["support"].tolist() == support.tolist()


def test_wrong_frames_are_refused() -> None:
    (x, y, ids), model = examples(), trained(steps=1)
    scores = memorization(model, x, y, ids)
    near = neighbourhood(model, x, y)
    with pytest.raises(ValueError, match="no column 'checkpoint'"):
        average_over_training(scores)
    with pytest.raises(ValueError, match="every example once at each"):
        average_over_training(pd.concat([scores.assign(checkpoint=0), scores[:5].assign(checkpoint=1)]))
    with pytest.raises(ValueError, match="90 examples but 10 of the neighbourhood"):
        sharpen(scores, near[:10])
    with pytest.raises(ValueError, match="no column 'loss_full'"):
        sharpen(scores.drop(columns="loss_full"), near)
    with pytest.raises(ValueError, match="no column 'support'"):
        sharpen(scores, near.drop(columns="support"))
