"""Put versions of the study side by side: `python -m study.commands.compare A B`, or `make compare A=... B=...`.

A version is a commit, a branch, an experiment of DVC, or `workspace`: what lies here now. The settings that differ come
first, then the numbers of `reports/headline.json`. With `--folder`, the table is written there as Markdown, and beside
it every figure that differs, before and after in one image: what a pull request shows.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.artefacts.files import writing
from study.commands.running import status_of
from study.tracking.metrics import flat
from turnover.errors import UserError

WORKSPACE = "workspace"
HEADLINE, SETTINGS, FIGURES = "reports/headline.json", "params.yaml", "reports/figures"
_GAP = 20  # pixels between the two images


@dataclass(frozen=True)
class Version:
    """A state of the repository.

    Args:
        root: the repository.
        name: as its user called it.
        commit: its hash; None: the files as they are now.
    """

    root: Path
    name: str
    commit: str | None

    def read(self, path: str) -> bytes:
        """A file of this version.

        Raises:
            UserError: it has no such file.
        """
        if self.commit is None:
            if (self.root / path).exists():
                return (self.root / path).read_bytes()
        else:
            shown = subprocess.run(["git", "show", f"{self.commit}:{path}"], cwd=self.root, capture_output=True)
            if not shown.returncode:
                return shown.stdout
        raise UserError(f"{self.name} has no {path}: `make repro` makes it, and a commit keeps it")

    def figures(self) -> set[str]:
        """The names of its figures."""
        if self.commit is None:
            return {path.name for path in (self.root / FIGURES).glob("*.png")}
        command = ["git", "ls-tree", "--name-only", self.commit, f"{FIGURES}/"]
        listed = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout
        return {Path(name).name for name in listed.splitlines() if name.endswith(".png")}

    def headline(self) -> dict[str, float]:
        """Its few numbers."""
        found: dict[str, float] = json.loads(self.read(HEADLINE))
        return found

    def settings(self) -> dict[str, Any]:
        """All its settings, flat."""
        from ruamel.yaml import YAML

        return flat(YAML(typ="safe", pure=True).load(self.read(SETTINGS).decode()))


def find(root: Path, names: Sequence[str]) -> list[Version]:
    """The versions with these names.

    Raises:
        UserError: a name is none of a commit, a branch, or an experiment of DVC.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    found = []
    with Repo(str(root)) as repo:
        for name in names:
            try:
                commit = None if name == WORKSPACE else resolve_rev(repo.scm, name)
            except DvcException as error:
                raise UserError(
                    f"{name!r} is no commit, branch or experiment: `git branch --all` and `dvc exp list --all-commits` "
                    "name them"
                ) from error
            found.append(Version(root, name, commit))
    return found


def table(versions: Sequence[Version], style: str) -> str:
    """Settings that differ, and all numbers, a column a version; of two versions the difference as well.

    Args:
        versions: at least one.
        style: a format of `tabulate`, such as ``"github"``.
    """
    from tabulate import tabulate  # type: ignore[import-untyped]  # DVC brings it

    names = [version.name for version in versions]
    settings = differing([version.settings() for version in versions])
    rows = [[name, *(_text(value) for value in values), ""] for name, values in settings.items()]
    headlines = [version.headline() for version in versions]
    for name in dict.fromkeys(name for headline in headlines for name in headline):
        values = [headline.get(name) for headline in headlines]
        rows.append([name, *map(_text, values), _change(values)])
    headers = ["", *names, "change"]
    if len(versions) != 2:
        rows, headers = [row[:-1] for row in rows], headers[:-1]
    align = ["left", *["right"] * (len(headers) - 1)]
    return str(tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=align))


def differing(settings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings that are not the same everywhere, each with its values; None where it is not set."""
    names = dict.fromkeys(name for of in settings for name in of)
    values = {name: [of.get(name) for of in settings] for name in names}
    return {name: of for name, of in values.items() if any(value != of[0] for value in of)}


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _change(values: Sequence[float | None]) -> str:
    before, after = values[0], values[-1]
    if before is None or after is None or before == after:
        return ""
    return f"{after - before:+.2g}"


def side_by_side(before: bytes, after: bytes) -> bytes:
    """Two images in one, as PNG, the first on the left."""
    from PIL import Image

    images = [Image.open(io.BytesIO(image)).convert("RGB") for image in (before, after)]
    size = sum(image.width for image in images) + _GAP, max(image.height for image in images)
    both = Image.new("RGB", size, "white")
    both.paste(images[0], (0, 0))
    both.paste(images[1], (images[0].width + _GAP, 0))
    written = io.BytesIO()
    both.save(written, "PNG", optimize=True)
    return written.getvalue()


def write(before: Version, after: Version, folder: Path) -> None:
    """Write `comment.md`, and in `figures/` every figure that differs, into `folder`, in place of what is there."""
    both = before.figures() & after.figures()
    contents = {name: [version.read(f"{FIGURES}/{name}") for version in (before, after)] for name in sorted(both)}
    differ = {name: images for name, images in contents.items() if images[0] != images[1]}
    lines = [f"### The study, {before.name} against {after.name}", "", table([before, after], "github"), ""]
    for what, names in (
        ("Figures that differ (in the artifact, before and after in one image)", sorted(differ)),
        ("New figures", sorted(after.figures() - both)),
        ("Figures that went", sorted(before.figures() - both)),
    ):
        if names:
            lines += [f"{what}: {', '.join(name.removesuffix('.png') for name in names)}.", ""]
    with writing(folder) as beside:
        (beside / "figures").mkdir(parents=True)
        (beside / "comment.md").write_text("\n".join(lines), encoding="utf-8")
        for name, images in differ.items():
            (beside / "figures" / name).write_bytes(side_by_side(*images))


def run(root: Path, names: Sequence[str], folder: Path | None) -> None:
    """Print the table of the versions, or write it and the figures into a folder."""
    versions = find(root, names)
    if folder is None:
        print(table(versions, "simple"))
    elif len(versions) == 2:
        write(versions[0], versions[1], folder)
        print(f"The comparison: {folder / 'comment.md'}")
    else:
        raise UserError(f"--folder takes two versions, not {len(versions)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.commands.compare", description=__doc__)
    parser.add_argument("versions", nargs="*", help="commits, branches, experiments (default: HEAD workspace)")
    parser.add_argument("--folder", type=Path, help="write Markdown and figures there, for a pull request")
    arguments = parser.parse_args()
    names = arguments.versions or ["HEAD", WORKSPACE]
    return status_of(lambda root: run(root, names if len(names) > 1 else [*names, WORKSPACE], arguments.folder))


if __name__ == "__main__":
    sys.exit(main())
