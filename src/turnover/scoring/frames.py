"""Frames that users hand back: of the right kind, and with ids as a column."""

from __future__ import annotations

from typing import Any

import pandas as pd


def with_id_column(frame: Any, name: str, made_by: str) -> pd.DataFrame:
    """A frame, whose ids became a column again where they were set as its index.

    Args:
        name: what the caller's argument is called.
        made_by: the functions that give such frames.

    Raises:
        TypeError: it is no frame.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"{name} is a {type(frame).__name__}: pass a frame as {made_by} gives it")
    return frame.reset_index() if frame.index.name == "id" and "id" not in frame else frame
