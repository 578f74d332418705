"""The library where nothing else is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import ROOT, required

EXAMPLE = Path(__file__).with_name("example.py")
# What the study needs and the library must do without. (jinja2 is not among them: torch brings it.)
ABSENT = (
    "study", "stages", "dvc", "mlflow", "pydantic", "ruamel", "matplotlib", "pyarrow", "sklearn", "torchvision",
    "PIL", "typer", "starlette", "uvicorn", "dattri", "cleanlab",
)  # fmt: skip
EVERYTHING = """
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from tests.packaging.example import hide, run

readme, *absent = sys.argv[1:]
hide(absent)
for name in absent:
    try:
        import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} is there")
import turnover
for module in walk_packages(turnover.__path__, "turnover."):
    import_module(module.name)
for name in turnover.__all__:
    assert getattr(turnover, name).__name__ == name
run(Path(readme).read_text(encoding="utf-8"))
print("ok")
"""


def python(*arguments: str | Path, executable: str | Path = sys.executable, **env: str) -> str:
    done = subprocess.run(
        [str(executable), *map(str, arguments)], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_public_name_and_the_example_do_without_what_the_study_needs() -> None:
    assert python("-c", EVERYTHING, ROOT / "README.md", *ABSENT) == "ok\n"


def pins() -> str:
    """The versions of the lock, as constraints: so uv's cache has the very files."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return "\n".join(line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[a-z0-9]", line))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it asks for, from uv's cache or the network."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        if required("network"):
            pytest.fail("uv is not installed")
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("installed")
    constraints = folder / "constraints.txt"
    constraints.write_text(pins())
    here = folder / "environment/bin/python"

    def install(*options: str) -> Sequence[str]:
        command = ["pip", "install", "--quiet", "--no-config", *options, "--python", str(here)]
        return [uv, *command, "--constraint", str(constraints), str(wheel)]

    create = [uv, "venv", "--quiet", "--no-config", "--python", sys.executable, str(folder / "environment")]
    subprocess.run(create, cwd=folder, check=True)
    done = subprocess.run(install("--offline"), cwd=folder, capture_output=True, text=True)
    if done.returncode and required("network"):
        done = subprocess.run(install(), cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    if done.returncode:
        pytest.skip("uv's cache does not hold the core dependencies: without network nothing can be installed")
    return here


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment_and_runs_the_example(installed: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", readme)
    script = tmp_path / "example.py"
    shutil.copy(EXAMPLE, script)
    assert python("-I", script, readme, executable=installed) == "ok\n"
    find = "import sys\nfrom importlib.util import find_spec\nprint([n for n in sys.argv[1:] if find_spec(n)])"
    assert python("-I", "-c", find, *ABSENT, executable=installed) == "[]\n"
    where = "import turnover\nprint(turnover.__file__)"
    assert Path(python("-I", "-c", where, executable=installed).strip()).is_relative_to(installed.parents[1])
