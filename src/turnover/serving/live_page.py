"""The page of an explorer as it is on the disk, with what is needed to ask of a new image."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from turnover.errors import UserError, reason

_POLICY = re.compile(r"(style-src '[^']+')(; script-src '[^']+')(?=\")")
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


class LivePage:
    """The page, and what lies beside it.

    Args:
        path: as `turnover.write_explorer` wrote it.

    Attributes:
        text: what is served, UTF-8.
        classes: the names of the classes on it.
        beside: name -> file of the pages in the same folder that it leads to.

    Raises:
        UserError: it is not there, or no explorer.
    """

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {reason(error)}; write it again") from error
        found = _DATA.search(text)
        if found is None or not _POLICY.search(text):
            raise UserError(f"{path} is no page of the explorer; write it again")
        data: dict[str, Any] = json.loads(found[1])
        self.text = _live(text).encode()
        self.classes: Sequence[str] = data["classes"]
        names = {address for _, address in data["links"] if Path(address).name == address}
        self.beside = {name: path.parent / name for name in sorted(names) if (path.parent / name).is_file()}


def _live(text: str) -> str:
    """The page with one script and one style more, which may ask where the page came from, and nobody else."""
    folder = files("turnover.serving").joinpath("page")
    style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("live.css", "live.js"))
    text = _POLICY.sub(
        lambda found: f"{found[1]} {_source(style)}{found[2]} {_source(script)}; connect-src 'self'", text, count=1
    )
    text = text.replace("</head>", f"<style>{style}</style>\n</head>", 1)
    start, _, end = text.rpartition("</body>")
    return f"{start}<script>{script}</script>\n</body>{end}"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
