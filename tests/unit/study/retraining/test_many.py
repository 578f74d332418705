"""A network depends on its subset, its seed and the recipe; not on company, processes or kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from study.retraining.loop import label_log_odds, one_cycle, train_network
from study.retraining.many import train_many
from tests.support import ROOT
from tests.unit.study.retraining.problem import (
    EXAMPLES,
    NETWORKS,
    RECIPE,
    SEEDS,
    examples,
    killed_worker,
    network,
    slow_network,
    subsets,
)
from turnover.errors import UserError

X, Y = examples()
MANY_IMAGES = """
import numpy as np
from study.retraining.many import train_many
from tests.unit.study.retraining.problem import RECIPE, examples, network
x, y = examples()
inside = np.arange(9000) < 32
print(train_many(network, x.repeat(100, 1, 1, 1), y.repeat(100), np.stack([inside, inside]), [1, 2], RECIPE)[0].shape)
"""


def test_the_loop_is_the_ordinary_one() -> None:
    """Against the plainest loop there is: no fused optimizer, no swapped layers, no channels last."""
    model = network(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RECIPE.learning_rate, weight_decay=1e-2, foreach=False)
    steps = -(-EXAMPLES // RECIPE.batch_size)
    for epoch in range(RECIPE.epochs):
        order = torch.from_numpy(np.random.default_rng([5, epoch]).permutation(EXAMPLES))
        for step in range(steps):
            rows = order[step * RECIPE.batch_size : (step + 1) * RECIPE.batch_size]
            optimizer.param_groups[0]["lr"] = RECIPE.learning_rate * one_cycle(
                (epoch * steps + step) / (RECIPE.epochs * steps)
            )
            optimizer.zero_grad()
            F.cross_entropy(model(X[rows]), Y[rows]).backward()
            optimizer.step()
    found = train_network(network, X, Y, RECIPE, 5)
    torch.testing.assert_close(found(X), model(X), rtol=1e-3, atol=1e-3)


def test_schedule() -> None:
    assert [one_cycle(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.04, 0.5, 1.0, 0.5, 0.0])


def test_log_odds_are_exact_where_the_probability_is_one() -> None:
    logits = torch.tensor([[100.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 50.0]])
    margin, correct = label_log_odds(nn.Identity(), logits, torch.tensor([0, 1, 0]), RECIPE)
    p = torch.tensor([1.0]) / (1.0 + np.exp(-1.0) + np.exp(1.0))
    expected = [100.0 - np.log(2.0), float((p / (1 - p)).log()), -50.0]
    assert margin.tolist() == pytest.approx(expected, rel=1e-5)
    assert correct.tolist() == [True, False, False]


def test_a_network_does_not_depend_on_company_or_processes() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    inside = subsets()
    margin, correct = train_many(network, X, Y, inside, SEEDS, RECIPE, processes=1)
    assert margin.shape == correct.shape == (NETWORKS, EXAMPLES)
    pooled, _ = train_many(network, X, Y, inside, SEEDS, RECIPE, processes=2)
    assert np.array_equal(pooled, margin)
    some = [4, 1]
    alone, right = train_many(network, X, Y, inside[some], [SEEDS[k] for k in some], RECIPE, processes=1)
    assert np.array_equal(alone, margin[some]) and np.array_equal(right, correct[some])
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_shared_memory_without_room_is_not_needed(tmp_path: Path) -> None:
    """Half a megabyte of images, and 64 kB in /dev/shm, in a namespace of its own: only root can make one."""
    small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*small, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    command = [*small, sys.executable, "-c", MANY_IMAGES]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "(2, 9000)\n", done.stderr


def test_subset_seed_and_recipe_all_count() -> None:
    inside = subsets()[:1]
    base, _ = train_many(network, X, Y, inside, [1], RECIPE, processes=1)
    others = [
        train_many(network, X, Y, subsets()[1:2], [1], RECIPE, processes=1),
        train_many(network, X, Y, inside, [2], RECIPE, processes=1),
        train_many(network, X, Y, inside, [1], RECIPE.model_copy(update={"epochs": 3}), processes=1),
    ]
    assert all(not np.array_equal(base, other) for other, _ in others)


def test_networks_learn_what_is_inside() -> None:
    recipe = RECIPE.model_copy(update={"epochs": 40, "learning_rate": 1e-2})
    make = partial(network, name="mlp")
    _, correct = train_many(make, X, Y, subsets(), SEEDS, recipe, processes=1)
    seen = correct[subsets()].mean()
    assert seen > 0.95 and 0.5 < correct[:, 60:].mean() < seen


def test_a_kill_loses_only_the_network_in_flight_and_changes_no_byte(tmp_path: Path) -> None:
    marks, folder = tmp_path / "marks", tmp_path / "rows"
    marks.mkdir()
    script = Path(__file__).with_name("problem.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(marks), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])},
    )
    deadline = time.monotonic() + 120
    while len(list(marks.iterdir())) < 4:  # the fingerprint makes one, then one a network
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(folder.rglob("*.npz")))
    assert 1 <= done < NETWORKS

    for mark in marks.iterdir():
        mark.unlink()
    make = partial(slow_network, marks=marks, patience=0.0)
    margin, correct = train_many(make, X, Y, subsets(), SEEDS, RECIPE, processes=1, checkpoint=folder)
    assert len(list(marks.iterdir())) == 1 + NETWORKS - done
    fresh = train_many(network, X, Y, subsets(), SEEDS, RECIPE, processes=1)
    assert np.array_equal(margin, fresh[0]) and np.array_equal(correct, fresh[1])


def test_kept_networks_of_something_else_are_not_taken(tmp_path: Path) -> None:
    train_many(network, X, Y, subsets(), SEEDS, RECIPE, processes=1, checkpoint=tmp_path)
    found, _ = train_many(network, X, Y.roll(1), subsets(), SEEDS, RECIPE, processes=1, checkpoint=tmp_path)
    fresh, _ = train_many(network, X, Y.roll(1), subsets(), SEEDS, RECIPE, processes=1)
    assert np.array_equal(found, fresh)


@pytest.mark.parametrize(
    "damage", [lambda whole: b"", lambda whole: whole[:-40], lambda whole: whole[:99] + whole[98:]]
)
def test_a_damaged_network_is_one_sentence_and_only_it_is_trained_again(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    first, _ = train_many(network, X, Y, subsets(), SEEDS, RECIPE, processes=1, checkpoint=tmp_path)
    [kept] = tmp_path.rglob("network-3.npz")
    kept.write_bytes(damage(kept.read_bytes()))
    with pytest.raises(UserError, match=r"network-3.npz is damaged \(.+\): delete it"):
        train_many(network, X, Y, subsets(), SEEDS, RECIPE, processes=1, checkpoint=tmp_path)
    kept.unlink()
    made: list[int] = []

    def counting(seed: int) -> nn.Module:
        made.append(seed)
        return network(seed)

    again, _ = train_many(counting, X, Y, subsets(), SEEDS, RECIPE, processes=1, checkpoint=tmp_path)
    assert np.array_equal(again, first)
    assert made == [SEEDS[0], SEEDS[3]]  # the fingerprint makes the first


def test_a_killed_worker_is_one_sentence_and_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="was killed .out of memory.*fewer processes"):
        train_many(killed_worker, X, Y, subsets(), SEEDS, RECIPE, processes=2, checkpoint=tmp_path)
    margin, _ = train_many(killed_worker, X, Y, subsets(), SEEDS, RECIPE, processes=1, checkpoint=tmp_path)
    assert np.array_equal(margin, train_many(network, X, Y, subsets(), SEEDS, RECIPE, processes=1)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inside": subsets()[:2]}, "inside must be bool"),
        ({"inside": subsets().astype(np.uint8)}, "inside must be bool"),
        ({"inside": np.zeros((NETWORKS, EXAMPLES), dtype=np.bool_)}, "without a single example"),
        ({"recipe": RECIPE.model_copy(update={"learning_rate": 1e30})}, "diverged: lower the learning rate"),
    ],
)
def test_what_cannot_work_is_said(change: dict[str, object], message: str) -> None:
    arguments = {"inside": subsets(), "seeds": SEEDS, "recipe": RECIPE, **change}
    with pytest.raises(UserError, match=message):
        train_many(network, X, Y, processes=1, **arguments)  # type: ignore[arg-type]


def test_nothing_is_printed_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    train_many(network, X, Y, subsets(), SEEDS, RECIPE, processes=1)
    assert capfd.readouterr() == ("", "")
