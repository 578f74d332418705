"""Checkpoints: what a training needs to go on with the same bits, and the refusal to go on with something else."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from turnover.errors import UserError
from turnover.masking.layer import masked_layers
from turnover.reading.examples import Examples
from turnover.reading.processes import shard, wait
from turnover.training.attachments import Pieces, write_beside
from turnover.training.settings import TrainingConfig


class Checkpoint:
    """One file, and a folder of pieces beside it. Without a path nothing is kept.

    With several processes the first one writes, and all of them read: the path must be on a disk that they share.

    Args:
        path: the file, or None.
        identity: what the training is, see `identify`; a checkpoint of anything else is refused.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, str]) -> None:
        self.path = path
        self.identity = dict(identity)
        self.pieces = Pieces(pieces_folder(path) if path is not None else None, writes=shard().number == 0)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within: no other process trains with this checkpoint. The system takes the lock back from a killed one.

        Raises:
            UserError: another process does.
        """
        if self.path is None or shard().number or os.name == "nt":
            yield
            return
        import fcntl

        lock = lock_file(self.path)
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("a+")
        except OSError as error:
            raise UserError(
                f"the checkpoint {self.path} could not be written ({error.strerror}): "
                "make its folder writable or choose another"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"another process is training with the checkpoint {self.path}: wait for it or end it"
                ) from None
            yield

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None if there is none. Its pieces are taken up.

        Raises:
            UserError: the file is corrupt, or belongs to another training; the message shows both values.
        """
        found = self.path is not None and self.path.exists()
        wait()  # nobody writes before all have looked
        if self.path is None or not found:
            self.pieces.clear()
            return None
        again = f"remove it to train from the start: {self.path}"
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            theirs = state["identity"]
        except Exception as error:
            raise UserError(f"the checkpoint is corrupt ({error}); {again}") from error
        for key in [*self.identity, *theirs]:
            if theirs.get(key) != self.identity.get(key):
                raise UserError(
                    f"the checkpoint belongs to another training: its {key} is {theirs.get(key)}, "
                    f"this training's is {self.identity.get(key)}; {again}"
                )
        self.pieces.restore(state["pieces"])
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state.

        Raises:
            UserError: the file cannot be written; the checkpoint before is intact.
        """
        if self.path is None:
            return
        if shard().number == 0:
            content = io.BytesIO()
            torch.save({"identity": self.identity, "pieces": self.pieces.state(), **state}, content)
            write_beside(self.path, content.getvalue())
        wait()


def discard(path: Path) -> None:
    """Remove a checkpoint with everything beside it, once the results are safe."""
    path.unlink(missing_ok=True)
    Pieces(pieces_folder(path)).clear()
    lock_file(path).unlink(missing_ok=True)


def pieces_folder(path: Path) -> Path:
    """Where the pieces of the checkpoint `path` are."""
    return path.with_name(path.name + ".pieces")


def lock_file(path: Path) -> Path:
    """The file that a training with the checkpoint `path` locks."""
    return path.with_name(path.name + ".lock")


def identify(
    model: nn.Module, examples: Examples, config: TrainingConfig, turn_over: bool, fingerprint: str
) -> dict[str, str]:
    """What decides the course of a training, by name: a checkpoint fits only where all of it is the same."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    masks = [(layer.layer, layer.seed, layer.keep) for layer in masked_layers(model)] if turn_over else []
    content = hashlib.sha256()
    for part in (examples.ids, examples.labels, examples.images):
        content.update(str((part.dtype, tuple(part.shape))).encode())
        content.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    settings = {field.name: str(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return {
        "fingerprint": fingerprint,
        **settings,
        "network": _digest(shapes),
        "masks": _digest(masks),
        "examples": content.hexdigest()[:20],
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:20]
