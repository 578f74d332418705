"""What a checkpoint keeps beside itself (dynamics, snapshots): each written once, and known by its checksum."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from turnover.errors import UserError


class DamageError(UserError):
    """A file is not what this library wrote."""


class Attachments:
    """Named sets of tensors, in memory or one file each in a folder.

    A checkpoint keeps only the checksums of the attachments that were there when it was written, so it does not grow
    with them. A resumed training takes exactly these, and writes the later ones again.

    Args:
        folder: where to write; None keeps them in memory.
        writes: False: another process writes them there, and this one only reads.
    """

    def __init__(self, folder: Path | None = None, writes: bool = True) -> None:
        self.folder = folder
        self.writes = writes
        self._checksums: dict[str, str] = {}
        self._held: dict[str, dict[str, Tensor]] = {}

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep copies of `tensors` under `name`.

        Raises:
            UserError: the file cannot be written; all others are as they were.
        """
        if not self.writes:
            self._checksums[name] = ""
            return
        copies = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
        if self.folder is None:
            self._held[name] = copies
            self._checksums[name] = ""
            return
        content = save(copies)
        write_beside(self._file(name), content)
        self._checksums[name] = hashlib.sha256(content).hexdigest()

    def get(self, name: str) -> dict[str, Tensor]:
        """The tensors kept under `name`, on the CPU.

        Raises:
            DamageError: its file is gone, or is not the one that was written.
            UserError: its file cannot be read.
        """
        if self.folder is None:
            return self._held[name]
        path = self._file(name)
        try:
            content = path.read_bytes()
            if self._checksums[name] not in ("", hashlib.sha256(content).hexdigest()):
                raise DamageError(f"{path} is not what this training wrote: remove its folder to train from the start")
            return dict(sorted(load(content).items()))  # it comes in a random order
        except (FileNotFoundError, SafetensorError) as error:
            raise DamageError(
                f"{path} is damaged or gone ({error}): remove its folder to train from the start"
            ) from error
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}): make it readable") from error

    def names(self, prefix: str = "") -> list[str]:
        """The names that start with `prefix`, sorted."""
        return sorted(name for name in self._checksums if name.startswith(prefix))

    def state(self) -> dict[str, str]:
        """For a checkpoint: the checksum of every attachment."""
        return dict(self._checksums)

    def restore(self, state: Mapping[str, str]) -> None:
        """Take up exactly the attachments of `state`.

        Raises:
            DamageError, UserError: as for `get`, of any of them.
        """
        self._checksums = dict(state)
        for name in state:
            self.get(name)

    def clear(self) -> None:
        """Remove every attachment, those of an abandoned training included."""
        self._checksums, self._held = {}, {}
        if self.folder is not None and self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.safetensors"


def write_beside(path: Path, content: bytes) -> None:
    """Write a file under another name, then rename it: nothing half-written ever stands under its name.

    The bytes are on the disk before the name is: after a power cut the name stands for the whole file, old or new.

    Raises:
        UserError: no space, no right, no such folder; what was there before is intact.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror or error}): free space or make the folder writable, then "
            "run again; what was saved before is intact"
        ) from error
    finally:
        if path.parent.is_dir() and beside.exists():
            beside.unlink()
