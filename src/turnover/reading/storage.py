"""Rows of numbers that need not fit into memory: kept there while they fit, else on the disk, and read in parts.

Plain files are written to and read from, not mapped: mapped pages count as memory of the process, and a full disk kills
who writes to a map.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import torch
from torch import Tensor

from turnover.errors import UserError

Stored = Literal["float32", "float16", "bfloat16"]

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PART = 4096  # rows that are worked on at once


class Rows:
    """Rows [n, width] that grow at the end.

    Args:
        dtype: how they are kept; they come back as float32.
        path: a file to append to, from `count` rows on. None: memory, and a temporary file once that is used up.
        memory: bytes that may be kept in memory.
        width, count: of the rows that are in the file already.
        append: False: the file is read only.

    Raises:
        UserError: the file holds fewer rows.
    """

    def __init__(
        self,
        dtype: Stored = "float32",
        path: Path | None = None,
        memory: int = 1 << 30,
        width: int = 0,
        count: int = 0,
        append: bool = True,
    ) -> None:
        self.dtype, self.width, self.count = dtype, width, count
        self.checksum = 0  # of what was appended here
        self._memory, self._parts = memory, list[Tensor]()
        self._file: IO[bytes] | None = None
        if path is not None:
            self._file = path.open("rb" if not append else "r+b" if path.exists() else "w+b", buffering=0)
            if self._file.seek(0, 2) < count * self._row:
                raise UserError(f"{path} is shorter than {count} rows: it was cut off; read the data again")
            if append:
                self._file.truncate(count * self._row)

    @property
    def _row(self) -> int:
        return self.width * DTYPES[self.dtype].itemsize

    def __len__(self) -> int:
        return self.count

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    def append(self, rows: Tensor) -> None:
        """Add rows [some, width].

        Raises:
            UserError: another width; numbers too large for the precision; no space on the disk.
        """
        if not self.width:
            self.width = rows.shape[1]
        if rows.shape[1] != self.width:
            raise UserError(
                f"features have {rows.shape[1]} numbers here but {self.width} before: name a layer in `features` whose "
                "width does not depend on the batch"
            )
        kept = rows.detach().to("cpu", DTYPES[self.dtype]).contiguous()
        if self.dtype == "float16" and bool((kept.isinf() & rows.detach().cpu().isfinite()).any()):
            raise UserError('features are too large for precision="float16": use "bfloat16" or "float32"')
        self.count += len(kept)
        if self._file is None and 2 * self.count * self._row > self._memory:  # joining parts takes them twice
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (open as long as this object)
            for part in self._parts:
                self._write(part)
            self._parts = []
        if self._file is None:
            self._parts.append(kept)
        else:
            self._write(kept)

    def _write(self, part: Tensor) -> None:
        assert self._file is not None
        content = memoryview(part.view(torch.uint8).numpy().data).cast("B")
        self.checksum = zlib.crc32(content, self.checksum)
        self._file.seek(0, 2)
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            raise UserError(
                f"the features could not be written ({error.strerror or error}): free space, or pass folder=... on a "
                'larger disk, or precision="float16"'
            ) from error

    def __getitem__(self, rows: slice) -> Tensor:
        """Rows as float32 [some, width]."""
        start, stop, _ = rows.indices(self.count)
        stop = max(start, stop)
        if self._file is None:
            if len(self._parts) > 1:
                self._parts = [torch.cat(self._parts)]
            return self._parts[0][start:stop].float() if self._parts else torch.empty(0, self.width)
        self._file.seek(start * self._row)
        content = bytearray((stop - start) * self._row)
        view, done = memoryview(content), 0
        while done < len(content) and (size := self._file.readinto(view[done:])):  # type: ignore[attr-defined]
            done += size
        if done < len(content):
            raise UserError("the file of the features was cut off while it was in use: read the data again")
        if not content:
            return torch.empty(0, self.width)
        return torch.frombuffer(content, dtype=DTYPES[self.dtype]).view(stop - start, self.width).float()

    def __iter__(self) -> Iterator[Tensor]:
        """All rows, some thousands at a time."""
        return (self[slice(start, start + _PART)] for start in range(0, self.count, _PART))

    def write_to(self, path: Path) -> None:
        """Copy all rows to a new file, in the precision they are kept in."""
        copy = Rows(self.dtype, path, width=self.width)
        for part in self:
            copy.append(part)
        self.checksum = copy.checksum
        copy.close()

    def verify(self, checksum: int) -> bool:
        """Whether the rows in the file are those that were appended."""
        assert self._file is not None
        found = 0
        self._file.seek(0)
        left = self.count * self._row
        while left and (content := self._file.read(min(left, 1 << 24))):
            found, left = zlib.crc32(content, found), left - len(content)
        self.checksum = found
        return found == checksum and not left


class Columns:
    """Some columns of rows, to be read like rows of their own.

    Args:
        rows: all columns.
        first: the first of them.
        width: how many; None: all that follow.
    """

    def __init__(self, rows: Rows, first: int, width: int | None = None) -> None:
        self._rows, self._first = rows, first
        self.width = rows.width - first if width is None else width

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> Tensor:
        """Rows as float32 [some, width]."""
        return self._rows[rows][:, self._first : self._first + self.width]

    def __iter__(self) -> Iterator[Tensor]:
        """All rows, some thousands at a time."""
        return (part[:, self._first : self._first + self.width] for part in self._rows)
