"""What one DVC stage may see: its own params, dependencies and outputs, as `dvc.yaml` declares them.

A stage that reads anything else would be wrong without anybody noticing, because DVC would not rerun it when
that thing changes. So here it is an error.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.params import Params, ParamsError, check_params
from turnover.errors import UserError

# Folders and files of the pipeline: everything in them belongs to some stage.
_GUARDED = ("data", "models", "dynamics", "scores", "ground_truth", "reports", "params.yaml")
_TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


class UndeclaredError(UserError):
    """A stage wants something that `dvc.yaml` does not declare for it."""


@dataclass(frozen=True)
class Run:
    """One item of the training matrix."""

    scenario: str
    placement: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.placement}-{self.seed}"

    @classmethod
    def parse(cls, name: str) -> Run:
        """The run whose `name` this is."""
        scenario, _, rest = name.partition("-")
        placement, _, seed = rest.rpartition("-")
        return cls(scenario, placement, int(seed))


# The name under which the ordinary-dropout control stands where the others have their placement.
CONTROL = "dropout"


def load_params(root: Path) -> Params:
    """The checked settings of the repository at `root`."""
    return check_params(read_yaml(root / "params.yaml"))


def masked_runs(params: Params) -> list[Run]:
    """The items of the matrix of stage `train`, in its order."""
    return [Run(*item) for item in itertools.product(params.scenarios, params.placements, params.seeds)]


def control_runs(params: Params) -> list[Run]:
    """The items of the matrix of stage `control`, in its order."""
    return [Run(s, CONTROL, seed) for s, seed in itertools.product(params.scenarios, params.seeds)]


@dataclass(frozen=True)
class Declaration:
    """One stage of `dvc.yaml`, its templates filled in."""

    name: str
    cmd: str
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]


class Stage:
    """The declared world of a running stage.

    Args:
        root: the repository.
        name: stage name in `dvc.yaml`, without the matrix item.
        item: the matrix item, such as ``{"scenario": "mixed", "seed": "0"}``.

    Raises:
        ParamsError: `params.yaml` is wrong.
        UserError: there is no such stage or item.
    """

    def __init__(self, root: Path, name: str, item: Mapping[str, str]) -> None:
        self.root = root
        self.raw_params = read_yaml(root / "params.yaml")
        self._params = check_params(self.raw_params)
        self.item = dict(item)
        self.declared = declaration(root, self.raw_params, name, item)

    @property
    def name(self) -> str:
        """The stage as DVC names it, such as ``train@mixed-head-0``."""
        return self.declared.name

    def param(self, key: str) -> Any:
        """The typed value of a setting, such as ``"training"`` or ``"labels.noise.mixed"``.

        Raises:
            UndeclaredError: `dvc.yaml` declares neither this key nor one above it for the stage.
        """
        if not any(key == declared or key.startswith(declared + ".") for declared in self.declared.params):
            raise UndeclaredError(
                f"stage {self.name} reads setting {key!r}, which dvc.yaml does not declare for it; "
                f"declared: {', '.join(self.declared.params) or 'none'}"
            )
        value: Any = self._params
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        return value

    def check(self, validate: Callable[[Params], None]) -> None:
        """Let `validate` look at all settings, declared or not, and raise: a check cannot change what is written."""
        validate(self._params)

    def dep(self, path: str) -> Path:
        """A path the stage may read.

        Raises:
            UndeclaredError: it is not (inside) a declared dependency.
            UserError: it is not there.
        """
        if not _within(path, self.declared.deps):
            raise UndeclaredError(
                f"stage {self.name} reads {path}, which dvc.yaml does not declare for it; "
                f"declared: {', '.join(self.declared.deps)}"
            )
        found = self.root / path
        if not found.exists():
            raise UserError(f"{path} is missing: run `dvc repro {self.name}` (or `make repro`), which makes it first")
        return found

    def out(self, path: str) -> Path:
        """A path the stage may write; its folder is made.

        Raises:
            UndeclaredError: it is not (inside) a declared output.
        """
        if not _within(path, self.declared.outs):
            raise UndeclaredError(
                f"stage {self.name} writes {path}, which dvc.yaml does not declare for it; "
                f"declared: {', '.join(self.declared.outs)}"
            )
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """While active, Python's own attempts to open undeclared files of the pipeline raise `UndeclaredError`."""
        allowed = (*self.declared.deps, *self.declared.outs)

        def check(path: str) -> None:
            parts = path.split("/")
            hidden = any(part.startswith(".") for part in parts)  # written beside, to be renamed
            if parts[0] in _GUARDED and not hidden and not _within(path, allowed):
                raise UndeclaredError(f"stage {self.name} opens {path}, which dvc.yaml does not declare for it")

        _guards.append((self.root, check))
        try:
            yield
        finally:
            _guards.pop()


_guards: list[tuple[Path, Callable[[str], None]]] = []


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _guards or not isinstance(args[0], str):
        return
    root, check = _guards[-1]
    opened = Path(args[0]).absolute()
    if opened.is_relative_to(root):
        check(opened.relative_to(root).as_posix())


sys.addaudithook(_audit)


def main(body: Callable[[Stage], None], name: str, *item_keys: str, doc: str | None = None) -> None:
    """Entry point of a stage script: parse the matrix item, check the params, run `body`.

    A user's mistake ends the process with its message and status 1, without a traceback.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=doc)
    for key in item_keys:
        parser.add_argument(f"--{key}", required=True, help=f"matrix item, one of `{key}s` in params.yaml")
    arguments = parser.parse_args()
    sys.exit(run_stage(body, name, {key: getattr(arguments, key) for key in item_keys}))


def run_stage(body: Callable[[Stage], None], name: str, item: Mapping[str, str], root: Path | None = None) -> int:
    """Run one stage in this process. Returns the exit status."""
    try:
        stage = Stage((root or Path.cwd()).absolute(), name, item)
        with stage.guarded():
            body(stage)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"error: stage {name} was interrupted; nothing half-written was left behind", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: stage {name}: {error.strerror or error} ({error.filename or 'no file named'})", file=sys.stderr)
        return 1
    return 0


def declaration(root: Path, raw_params: Mapping[str, Any], name: str, item: Mapping[str, str]) -> Declaration:
    """Look up a stage in `dvc.yaml` and fill in its templates, as DVC would.

    Raises:
        UserError: no such stage, or the item is not in its matrix.
    """
    stages = read_yaml(root / "dvc.yaml")["stages"]
    if name not in stages:
        raise UserError(f"dvc.yaml has no stage {name!r}; it has {', '.join(stages)}")
    raw = stages[name]
    values: dict[str, Any] = dict(raw_params)
    matrix = {key: _fill(of, values) for key, of in raw.get("matrix", {}).items()}
    if set(matrix) != set(item):
        raise UserError(f"stage {name!r} takes the matrix item {sorted(matrix)}, got {sorted(item)}")
    for key, value in item.items():
        if value not in [str(entry) for entry in matrix[key]]:
            raise UserError(f"--{key} {value} is not in the matrix of stage {name!r}: {matrix[key]}")
    values["item"] = dict(item)
    suffix = "@" + "-".join(str(item[key]) for key in matrix) if matrix else ""

    def paths(*keys: str) -> tuple[str, ...]:
        entries = [entry for key in keys for entry in raw.get(key, [])]
        names = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        return tuple(str(_fill(entry, values)) for entry in names)

    return Declaration(
        name=name + suffix,
        cmd=str(_fill(raw["cmd"], values)),
        params=paths("params"),
        deps=paths("deps"),
        outs=paths("outs", "metrics", "plots"),
    )


def _fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Replace every ``${a.b}``; a template that is nothing else becomes the value itself."""
    if not isinstance(template, str):
        return template

    def look_up(key: str) -> Any:
        value: Any = values
        for part in key.split("."):
            value = value[part]
        return value

    whole = _TEMPLATE.fullmatch(template)
    if whole:
        return look_up(whole[1])
    return _TEMPLATE.sub(lambda match: str(look_up(match[1])), template)


def _within(path: str, declared: tuple[str, ...]) -> bool:
    return any(path == other or path.startswith(other.rstrip("/") + "/") for other in declared)


def read_yaml(path: Path) -> Any:
    """Parse one of the two files that describe the pipeline; a `ParamsError` says what is wrong with it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path.name} is missing: run in the root of the repository") from None
    except YAMLError as error:
        raise ParamsError(f"{path.name} is not valid YAML: {error}") from None
