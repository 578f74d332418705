"""Checkpoints: kills at any moment, refusals, and disks that do not play along."""

from __future__ import annotations

import json
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.turnover.attribution.networks import run_python
from tests.unit.turnover.small import examples, network, weights
from turnover.errors import UserError
from turnover.reading.examples import Examples
from turnover.scoring.memorization import memorization, memorization_over_training
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import discard, attachments_folder
from turnover.training.dynamics import Dynamics, schedule
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig
from turnover.training.snapshots import Snapshots

CONFIG = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e-2)


def test_twenty_kills_at_random_moments_end_in_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL, and as often SIGTERM; `killed.py` prints how far each run had come, and whether the end was the same."""
    report = json.loads(run_python(Path(__file__).with_name("killed.py"), tmp_path))
    kills = report["SIGKILL"]
    assert len(kills) == 20
    assert sum(0 < epoch < report["epochs"] for epoch, _, _ in kills) >= 8  # most kills did hit a half-done run
    assert sum(step > 0 for _, step, _ in report["SIGTERM"]) >= 3  # some stops were saved in the middle of an epoch
    assert all(same for _, _, same in kills + report["SIGTERM"])


@pytest.fixture
def half_done(tmp_path: Path) -> Path:
    """The checkpoint of a training of two epochs, kept after its end."""
    path = tmp_path / "checkpoint.pt"
    train(network(), examples(), CONFIG, dynamics=Dynamics(examples(), [0, 2]), checkpoint=path, fingerprint="aaa")
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fingerprint": "bbb"}, "its fingerprint is aaa, this training's is bbb"),
        ({"config": replace(CONFIG, learning_rate=2e-2)}, "its learning_rate is 0.01, this training's is 0.02"),
        ({"config": replace(CONFIG, augmentation=Augmentation(flip=True))}, "its augmentation is .*flip=False"),
        ({"model": network("all")}, "its masks is"),
        ({"turn_over": False}, "its masks is"),
        ({"examples": Examples(255 - examples().images, examples().labels, examples().ids)}, "its examples is"),
        ({"examples": Examples(examples().images, examples().labels, examples().ids + 1)}, "its examples is"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(half_done: Path, changed: dict[str, Any], message: str) -> None:
    arguments = {"model": network(), "examples": examples(), "config": CONFIG, "fingerprint": "aaa", **changed}
    before = half_done.read_bytes()
    with pytest.raises(UserError, match=f"belongs to another training: {message}"):
        train(checkpoint=half_done, **arguments)
    assert half_done.read_bytes() == before


def test_a_corrupt_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="is corrupt"):
        train(network(), examples(), CONFIG, checkpoint=path)


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_dynamics_that_are_not_what_was_written_are_refused(half_done: Path, damage: str) -> None:
    piece = attachments_folder(half_done) / "dynamics-000000.safetensors"
    if damage == "gone":
        piece.unlink()
    else:
        content = bytearray(piece.read_bytes())
        content[-1] ^= 1
        piece.write_bytes(content)
    with pytest.raises(
        UserError, match=r"dynamics-000000.safetensors (cannot be read|is not what this training wrote)"
    ):
        train(network(), examples(), CONFIG, checkpoint=half_done, fingerprint="aaa")


def test_a_piece_later_than_the_checkpoint_does_not_belong(tmp_path: Path) -> None:
    """Killed between writing dynamics and checkpoint: the leftover is written again, not believed."""
    path = tmp_path / "checkpoint.pt"
    leftover = attachments_folder(path) / "dynamics-000002.safetensors"
    leftover.parent.mkdir()
    leftover.write_bytes(b"of an abandoned training")
    dynamics = Dynamics(examples(), [0, 1])
    train(network(), examples(), CONFIG, dynamics=dynamics, checkpoint=path)
    assert sorted(dynamics.frame()["epoch"].unique()) == [0, 1]
    assert not leftover.exists()


def test_the_checkpoint_does_not_grow_with_the_dynamics_and_discard_removes_all(tmp_path: Path) -> None:
    data, sizes = examples(500), []
    path = tmp_path / "checkpoint.pt"
    config = TrainingConfig(epochs=6, batch_size=100)
    dynamics = Dynamics(data, schedule(6, "all"))
    train(
        network(),
        data,
        config,
        dynamics=dynamics,
        checkpoint=path,
        on_epoch=lambda _: sizes.append(path.stat().st_size),
    )
    assert sizes[-1] - sizes[0] < 3000  # history and checksums; the dynamics of one epoch are 12,000 bytes
    assert len(list(attachments_folder(path).iterdir())) == 7
    discard(path)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Within: writing more than `size` bytes to a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("of", ["checkpoint", "dynamics"])
def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint_intact(tmp_path: Path, of: str) -> None:
    """The disk fills up after the first epoch; with space again, training ends as if nothing had happened."""
    data = examples(2000 if of == "dynamics" else 50)
    config = TrainingConfig(epochs=2, batch_size=500)
    path, before = tmp_path / "checkpoint.pt", []

    def run(full_after: int | None) -> torch.Tensor:
        model, dynamics = network(), Dynamics(data, [2])
        limits: list[Any] = []

        def on_epoch(epoch: Any) -> None:
            if epoch.number == full_after:
                before.append(path.read_bytes())
                # A checkpoint of this network is 30 kB, dynamics of 2,000 examples 48 kB.
                limits.append(files_of_at_most(40_000 if of == "dynamics" else 10_000))
                limits[0].__enter__()

        try:
            train(model, data, config, dynamics=dynamics, checkpoint=path, on_epoch=on_epoch)
        finally:
            for limit in limits:
                limit.__exit__(None, None, None)
        return weights(model)

    with pytest.raises(UserError, match=rf"{of}\S* could not be written \(File too large\).*before is intact"):
        run(full_after=1)
    assert path.read_bytes() == before[0]
    assert not list(tmp_path.rglob("*.part"))
    resumed = run(None)
    straight = network()
    train(straight, data, config)
    assert torch.equal(resumed, weights(straight))


@contextmanager
def without_rights() -> Iterator[None]:
    """Within: root, too, may not write where others may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(user)


def test_a_folder_that_cannot_be_written_to_is_found_before_any_work() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o555)
        model = network()
        before = weights(model)
        with without_rights(), pytest.raises(UserError, match="could not be written .*Permission denied.*writable"):
            train(model, examples(), CONFIG, checkpoint=Path(folder) / "checkpoint.pt")
        assert torch.equal(weights(model), before)
        assert os.listdir(folder) == []


def test_two_trainings_do_not_share_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"

    def second(epoch: object) -> None:
        with pytest.raises(UserError, match=r"another process is training with the checkpoint .*checkpoint\.pt"):
            train(network(), examples(), CONFIG, checkpoint=path)
        seen.append(epoch)

    seen: list[object] = []
    train(network(), examples(), CONFIG, checkpoint=path, on_epoch=second)
    assert len(seen) == CONFIG.epochs


def test_snapshots_follow_memorization_through_training(tmp_path: Path) -> None:
    """The last snapshot is the final network, and earlier ones are those of a shorter look at the same training."""
    snapshots, model = Snapshots([2, 0, 1]), network()
    states: list[torch.Tensor] = []
    first = weights(model)
    train(
        model,
        examples(),
        CONFIG,
        snapshots=snapshots,
        checkpoint=tmp_path / "checkpoint.pt",
        on_epoch=lambda epoch: states.append(weights(model)),
    )
    kept = dict(snapshots)
    assert list(kept) == [0, 1, 2]
    for epoch, expected in zip(kept, [first, *states], strict=True):
        found = network()
        found.load_state_dict(kept[epoch])
        assert torch.equal(weights(found), expected)
    data = examples()
    frame = memorization_over_training(network(), kept.values(), data.images, data.labels, data.ids)
    last = frame[frame["checkpoint"] == 2].drop(columns="checkpoint").reset_index(drop=True)
    assert last.equals(memorization(model, data.images, data.labels, data.ids))
