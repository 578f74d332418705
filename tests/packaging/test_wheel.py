"""What is in the wheel, and what it asks for."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

from tests.support import ROOT

CORE = {"torch", "numpy", "pandas", "scipy", "safetensors", "tqdm", "filelock"}
# Rooms that serve the extras, and what they import beside the core: on first use, as the core does without.
EXTRA = {
    "collecting": {"PIL", "pyarrow"},
    "auditing": {"PIL", "datasets", "pyarrow", "typer"},
    "exploring": {"PIL"},
    "serving": {"PIL", "starlette", "uvicorn"},
}


def requirement(line: str) -> str:
    """The name of the package in a requirement, spelt as in the lock."""
    found = re.match(r"[A-Za-z0-9._-]+", line)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_the_wheel_holds_the_library_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    source = ROOT / "src"
    expected = {path.relative_to(source).as_posix() for path in (source / "turnover").rglob("*.py")}
    assert "turnover/__init__.py" in expected
    rooms = [source / "turnover" / room / "page" for room in ("exploring", "serving")]
    pages = {path.relative_to(source).as_posix() for room in rooms for path in room.iterdir()}
    assert {"turnover/exploring/page/page.html", "turnover/serving/page/live.js"} <= pages
    assert names == expected | pages | {"turnover/py.typed", "turnover/auditing/page.html"}


def test_it_asks_for_the_core_only_and_offers_the_rest_as_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    asked = metadata.get_all("Requires-Dist", [])
    assert {requirement(line) for line in asked if "extra ==" not in line} == CORE
    assert set(metadata.get_all("Provides-Extra", [])) == {"study", "audit", "compare", "dev"}
    audit = {requirement(line) for line in asked if re.search(r"extra == .audit.", line)}
    assert audit == {"typer", "pillow", "pyarrow", "starlette", "uvicorn"}
    study = {requirement(line) for line in asked if re.search(r"extra == .study.", line)}
    assert {"dvc", "mlflow", "pydantic", "matplotlib", "pyarrow", "scikit-learn", "torchvision"} <= study


def test_the_core_is_what_the_library_imports() -> None:
    imported: set[str] = set()
    library = ROOT / "src/turnover"
    for path in library.rglob("*.py"):
        allowed = EXTRA.get(path.relative_to(library).parts[0], set())
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
        imported |= found - allowed
    assert imported - set(sys.stdlib_module_names) - {"turnover"} == CORE


def test_every_package_of_the_lock_is_pinned_by_hash_and_none_by_address() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|@ ", lock)
    entries = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert all(re.match(r"[a-z0-9._-]+==\S+ ", entry) for entry in entries)
    assert lock.count("--hash=sha256:") >= len(entries)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    assert {requirement(line) for line in wanted} <= {entry.partition("==")[0] for entry in entries}


def test_it_brings_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert archive.read(name).decode().split() == [
            "[console_scripts]", "turnover", "=", "turnover.auditing.command:main",
        ]  # fmt: skip
