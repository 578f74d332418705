"""Where the pipeline cannot work, or would work with other code than that of its folder: said before anything is done.

Nothing in here needs more than the standard library.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from turnover.errors import UserError

_PACKAGES = ("study", "turnover")


def check_place(root: Path) -> None:
    """Refuse a folder that DVC or Python cannot work in.

    Raises:
        UserError: its path holds a brace, or letters that the locale cannot write.
    """
    if {"{", "}"} & set(str(root)):
        raise UserError(f"DVC cannot work below a folder whose name holds a brace: rename {root}")
    encoding = sys.getfilesystemencoding().lower().replace("-", "")
    if encoding != "utf8" and not str(root).isascii():
        raise UserError(
            f"the name of the folder {root!s} needs UTF-8, but the locale's encoding is {encoding}: set PYTHONUTF8=1"
        )


def check_code(root: Path) -> None:
    """Refuse code from elsewhere, say by PYTHONPATH: DVC would take results for those of the code in `root`.

    A copy of the same code is welcome: experiments of DVC in folders of their own have one.

    Raises:
        UserError: a package that is imported is not the one of this folder.
    """
    for name in _PACKAGES:
        own, spec = root / "src" / name, find_spec(name)
        # `study` is a namespace package: it may lie in several places, of which the first one counts.
        found = Path(next(iter((spec and spec.submodule_search_locations) or ()), own))
        if own.is_dir() and found.resolve() != own.resolve() and _code(found) != _code(own):
            raise UserError(
                f"{name} is imported from {found}, which is other code than {own}: unset PYTHONPATH, and "
                "run in this folder's own environment, which `make setup` makes"
            )


def _code(package: Path) -> dict[str, bytes]:
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*.py")}
