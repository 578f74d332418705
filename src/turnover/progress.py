"""Progress bars on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*, total: int | None, unit: str, description: str, show: bool | None = None) -> Any:
    """A tqdm bar; `show` None shows it only where standard error is a terminal."""
    hidden = not (sys.stderr.isatty() if show is None else show)
    return tqdm(total=total, unit=f" {unit}s", desc=description, disable=hidden, unit_scale=True, leave=False)
