"""Checkpoints: kills at any moment, refusals, and disks that do not play along."""

from __future__ import annotations

import json
import os
import random
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from tests.unit.turnover.attribution.networks import run_python
from tests.unit.turnover.small import examples, network, weights
from turnover.batches.examples import Examples
from turnover.errors import UserError
from turnover.masking.insertion import insert, remove
from turnover.masking.layer import TurnOverDropout
from turnover.scoring.memorization import memorization, memorization_over_training
from turnover.training.attachments import DamageError
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import attachments_folder, discard, masks_identity, read
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


HERE = {"after": ["network.features.2", "network.activation"], "keep": 0.5, "seed": 7}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"after": ["network.features.2", "network.hidden"]},
        {"after": ["network.features.5", "network.activation"]},
        {"after": ["network.features.2"]},
        {"after": "head"},
        {"keep": 0.25},
        {"seed": 8},
    ],
)
def test_a_checkpoint_fits_where_the_masks_are_the_same_and_nowhere_else(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    path = tmp_path / "checkpoint.pt"
    train(insert(remove(network()), **HERE), examples(), CONFIG, checkpoint=path)
    other, epochs = insert(remove(network()), **{**HERE, **changed}), []
    if changed:
        with pytest.raises(UserError, match=r"another training: its masks is \[.*this training's is \[.*remove it"):
            train(other, examples(), CONFIG, checkpoint=path, on_epoch=epochs.append)
    else:
        train(other, examples(), CONFIG, checkpoint=path, on_epoch=epochs.append)
    assert len(epochs) == (0 if changed else CONFIG.epochs)


@pytest.mark.parametrize("changed", [{"dim": 1}, {"units": 31}, {"layer": 1}])
def test_dimension_units_and_number_of_a_masked_layer_count_too(changed: dict[str, int]) -> None:
    def masked(**settings: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 32), TurnOverDropout(**{"dim": 2, "units": 32, "layer": 0, **settings}))

    assert masks_identity(masked()) == masks_identity(masked())
    assert masks_identity(masked()) != masks_identity(masked(**changed))


def test_a_file_that_is_no_checkpoint_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"of": "somebody else"}, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint of this version: remove it"):
        train(network(), examples(), CONFIG, checkpoint=path)
    assert path.read_bytes() == before


def flipped(content: bytes, at: int) -> bytes:
    """One bit of one byte changed."""
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def result(path: Path | None) -> tuple[torch.Tensor, pd.DataFrame]:
    """What a training like that of `half_done` ends with."""
    model, dynamics = network(), Dynamics(examples(), [0, 2])
    train(model, examples(), CONFIG, dynamics=dynamics, checkpoint=path, fingerprint="aaa")
    return weights(model), dynamics.frame()


def test_a_damaged_checkpoint_is_never_used(half_done: Path) -> None:
    """One byte flipped at each of 20 places, or the end missing: found, said, and trained again from the beginning."""
    whole, (expected, dynamics) = half_done.read_bytes(), result(None)
    chance = random.Random(0)
    damaged = [flipped(whole, chance.randrange(30, len(whole))) for _ in range(20)]
    damaged += [whole[: chance.randrange(1, len(whole))] for _ in range(5)]
    for content in [*damaged, flipped(whole, len(whole) - 1), flipped(whole, 30), whole[:5], whole[:-1], b""]:
        half_done.write_bytes(content)
        with pytest.raises(DamageError, match=r"the checkpoint .*checkpoint\.pt is damaged"):
            read(half_done)
    for content in (damaged[0], b""):
        half_done.write_bytes(content)
        with pytest.warns(UserWarning, match=r"checkpoint\.pt is damaged; .*training starts from the beginning"):
            found, frame = result(half_done)
        assert torch.equal(found, expected)
        assert frame.equals(dynamics)
    half_done.write_bytes(flipped(whole, 3))  # its first bytes no longer say that it is ours
    with pytest.raises(UserError, match=r"is not a checkpoint of this version: remove it"):
        result(half_done)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_dynamics_that_are_not_what_was_written_are_never_used(half_done: Path, damage: str) -> None:
    file = attachments_folder(half_done) / "dynamics-000000.safetensors"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if damage == "cut" else flipped(content, len(content) - 1))
    with pytest.warns(UserWarning, match=r"dynamics-000000\.safetensors is .*; .*training starts from the beginning"):
        found, dynamics = result(half_done)
    expected, frame = result(None)
    assert torch.equal(found, expected)
    assert dynamics.equals(frame)


def test_dynamics_that_cannot_be_read_now_are_refused_and_kept(half_done: Path) -> None:
    """A disk that does not answer is no damage: nothing is thrown away."""
    file = attachments_folder(half_done) / "dynamics-000000.safetensors"
    file.unlink()
    file.mkdir()
    before = half_done.read_bytes()
    with pytest.raises(UserError, match=r"dynamics-000000\.safetensors cannot be read"):
        result(half_done)
    assert half_done.read_bytes() == before


def test_an_attachment_later_than_the_checkpoint_does_not_belong(tmp_path: Path) -> None:
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
    with tempfile.TemporaryDirectory() as folder:
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
        with pytest.raises(UserError, match=rf"another process \({os.getpid()}\) is training with the .*\.pt"):
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
    assert last.equals(memorization(model, data.images, data.labels, data.ids, neighbours=False))
