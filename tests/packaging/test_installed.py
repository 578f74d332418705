"""The library where nothing else is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installing import environment_with
from tests.support import ROOT

EXAMPLE = Path(__file__).with_name("example.py")
# What the study needs and the library must do without. (jinja2 is not among them: torch brings it.)
ABSENT = (
    "study", "stages", "dvc", "mlflow", "pydantic", "ruamel", "matplotlib", "pyarrow", "sklearn", "torchvision",
    "PIL", "typer", "starlette", "uvicorn", "dattri", "cleanlab", "kronfluence",
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


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it asks for, from uv's cache or the network."""
    return environment_with(tmp_path_factory.mktemp("installed"), wheel)


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
