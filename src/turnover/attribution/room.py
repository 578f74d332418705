"""Room on a disk, taken before a file is mapped: a full disk kills who writes to a map (SIGBUS), without a word."""

from __future__ import annotations

import os
from typing import IO

from turnover.errors import UserError


def take_room(file: IO[bytes], size: int, name: str, cure: str) -> None:
    """Make `file` at least `size` bytes long, every one of them on the disk; what it holds stays.

    Args:
        name: of the file, for the message.
        cure: what the user may do if there is no room, after "free space, ".

    Raises:
        UserError: the disk is full, or refuses; the message says how much is missing.
    """
    try:
        if hasattr(os, "posix_fallocate"):  # not on macOS and Windows, where holes stay
            os.posix_fallocate(file.fileno(), 0, size)
        elif os.fstat(file.fileno()).st_size < size:
            file.truncate(size)
    except OSError as error:
        raise UserError(
            f"{size / 2**20:,.0f} MiB on the disk could not be had for {name} ({error.strerror or error}): "
            f"free space, {cure}"
        ) from error
