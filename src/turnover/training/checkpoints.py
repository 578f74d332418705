"""Checkpoints: what a training needs to go on with the same bits, and the refusal to go on with something else."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from turnover.batches.examples import Examples
from turnover.batches.processes import shard, wait
from turnover.errors import UserError
from turnover.masking.identity import masks_identity
from turnover.training.attachments import Attachments, DamageError, write_beside
from turnover.training.settings import TrainingConfig

_MARK = b"turnover checkpoint\n"  # how a file begins; then the checksum of the rest, in 64 hexadecimal digits
_BEGIN = len(_MARK) + 64


class Checkpoint:
    """One file, and a folder of attachments beside it. Without a path nothing is kept.

    With several processes the first one writes, and all of them read: the path must be on a disk that they share.

    Args:
        path: the file, or None.
        identity: what the training is, see `identify`; a checkpoint of anything else is refused.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, str]) -> None:
        self.path = path
        self.identity = dict(identity)
        folder = attachments_folder(path) if path is not None else None
        self.attachments = Attachments(folder, writes=shard().number == 0)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Within: no other process trains with this checkpoint. The system takes the lock back from a killed one.

        Raises:
            UserError: another process does; the message names it.
        """
        if self.path is None or shard().number:
            yield
            return
        file = lock_file(self.path)
        lock = FileLock(file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            file.write_text(str(os.getpid()))
        except Timeout:
            raise UserError(
                f"another process{_holder(file)} is training with the checkpoint {self.path}: wait for it or end it"
            ) from None
        except OSError as error:
            raise UserError(
                f"the checkpoint {self.path} could not be written ({error.strerror}): "
                "make its folder writable or choose another"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def load(self) -> dict[str, Any] | None:
        """The saved state, its attachments taken up. None if there is none, or, with a warning, if it is damaged.

        Raises:
            UserError: the file is none of ours, cannot be read, or belongs to another training; the message shows both
                values.
        """
        found = self.path is not None and self.path.exists()
        wait()  # nobody writes before all have looked
        state = None
        if self.path is not None and found:
            try:
                state = read(self.path)
                self._refuse_another(state["identity"])
                self.attachments.restore(state["attachments"])
            except DamageError as damage:
                state = None
                warnings.warn(f"{damage}; nothing of it is used: training starts from the beginning", stacklevel=3)
        wait()  # nor before all have read
        if state is None:
            self.attachments.clear()
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
            torch.save({"identity": self.identity, "attachments": self.attachments.state(), **state}, content)
            body = content.getvalue()
            write_beside(self.path, _MARK + hashlib.sha256(body).hexdigest().encode() + body)
        wait()

    def _refuse_another(self, theirs: Mapping[str, str]) -> None:
        for key in [*self.identity, *theirs]:
            if theirs.get(key) != self.identity.get(key):
                raise UserError(
                    f"the checkpoint belongs to another training: its {key} is {_shown(theirs.get(key))}, this "
                    f"training's is {_shown(self.identity.get(key))}; remove it to train from the start: {self.path}"
                )


def read(path: Path) -> dict[str, Any]:
    """What is in a checkpoint.

    Raises:
        DamageError: it is not what was written: a byte changed, or the end is missing.
        UserError: the file is something else, or cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"the checkpoint {path} cannot be read ({error.strerror}): make it readable") from error
    if not content.startswith(_MARK) and not _MARK.startswith(content):
        raise UserError(f"{path} is not a checkpoint of this version: remove it to train from the start")
    body = content[_BEGIN:]
    if content[len(_MARK) : _BEGIN] != hashlib.sha256(body).hexdigest().encode():
        raise DamageError(f"the checkpoint {path} is damaged")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    return state


def discard(path: Path) -> None:
    """Remove a checkpoint with everything beside it, once the results are safe."""
    path.unlink(missing_ok=True)
    Attachments(attachments_folder(path)).clear()
    lock_file(path).unlink(missing_ok=True)


def attachments_folder(path: Path) -> Path:
    """Where the attachments of the checkpoint `path` are."""
    return path.with_name(path.name + ".attachments")


def lock_file(path: Path) -> Path:
    """The file that a training with the checkpoint `path` locks; in it stands its process id."""
    return path.with_name(path.name + ".lock")


def identify(
    model: nn.Module, examples: Examples, config: TrainingConfig, turn_over: bool, fingerprint: str
) -> dict[str, str]:
    """What decides the course of a training, by name: a checkpoint fits only where all of it is the same."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    content = hashlib.sha256()
    for part in (examples.ids, examples.labels, examples.images):
        content.update(str((part.dtype, tuple(part.shape))).encode())
        content.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    settings = {field.name: str(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return {
        "fingerprint": fingerprint,
        **settings,
        "network": _digest(repr(shapes)),
        "masks": masks_identity(model) if turn_over else "not used",
        "examples": content.hexdigest()[:20],
    }


def _holder(lock: Path) -> str:
    """Who holds the lock, for a message; nothing where the system does not let it be read."""
    try:
        found = lock.read_text().strip()
    except OSError:
        return ""
    return f" ({found})" if found else ""


def _shown(value: str | None) -> str:
    """A value of an identity, at a length that a message can take."""
    text = str(value)
    return text if len(text) <= 100 else f"{text[:60]}... ({_digest(text)})"


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:20]
