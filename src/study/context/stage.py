"""What one DVC stage may see: its own params, dependencies and outputs, as `dvc.yaml` declares them.

A stage that reads anything else would be wrong without anybody noticing, because DVC would not rerun it when
that thing changes. So here it is an error.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.context.alone import alone
from study.context.declaration import declaration, read_yaml, within
from study.context.lifetime import leave_on_sigterm
from study.context.lock import other_outs
from study.context.params import check_params
from study.context.runs import Run, masked_runs_of, runs_of
from study.context.surroundings import check_code
from turnover.errors import UserError
from turnover.interruption import Interrupted

# Folders and files of the pipeline: everything in them belongs to some stage. Who made a network (`made-by`) is for the
# tracking alone, which works in every stage.
_GUARDED = ("data", "runs", "scores", "ground_truth", "reports", "params.yaml")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class UndeclaredError(UserError):
    """A stage wants something that `dvc.yaml` does not declare for it."""


class Stage:
    """The declared world of a running stage.

    Args:
        root: the repository.
        name: stage name in `dvc.yaml`, without the matrix item.
        item: the matrix item, such as ``{"scenario": "mixed", "placement": "head"}``.

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
        """The stage as DVC names it, such as ``train@mixed-head``."""
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

    def runs(self) -> list[Run]:
        """The trainings of this item: those of its placement, or all masked ones of its scenario."""
        scenario = self.item["scenario"]
        if "placement" in self.item:
            return runs_of(self._params, scenario, self.item["placement"])
        return masked_runs_of(self._params, scenario)

    def processes(self, threads: int, device: str) -> int:
        """How many members may be made at once, with `threads` each. It cannot change what is written.

        One at a time on an accelerator, where nothing is forked.
        """
        if self._params.processes != "auto":
            return self._params.processes
        return max(1, cores() // threads) if device == "cpu" else 1

    def dep(self, path: str) -> Path:
        """A path the stage may read.

        Raises:
            UndeclaredError: it is not (inside) a declared dependency.
            UserError: it is not there.
        """
        if not within(path, self.declared.deps):
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
        if not within(path, self.declared.outs):
            raise UndeclaredError(
                f"stage {self.name} writes {path}, which dvc.yaml does not declare for it; "
                f"declared: {', '.join(self.declared.outs)}"
            )
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def check_deps(self) -> None:
        """Refuse dependencies whose bytes changed without DVC's notice, which goes by their size and time.

        Raises:
            UserError: an out of another stage is not what `dvc.lock` says.
        """
        for name in other_outs(self.root, self.declared.deps):
            raise UserError(
                f"{name} is not what dvc.lock says it is: run `make repro`, which brings it back, or, to keep it as it "
                "is, `dvc commit`"
            )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """While active, Python's own attempts to open undeclared files of the pipeline raise `UndeclaredError`."""
        allowed = (*self.declared.deps, *self.declared.outs)

        def check(path: str) -> None:
            parts = path.split("/")
            hidden = any(part.startswith(".") for part in parts)  # written beside, to be renamed
            if parts[0] in _GUARDED and not hidden and not within(path, allowed):
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
    leave_on_sigterm()
    sys.exit(run_stage(body, name, {key: getattr(arguments, key) for key in item_keys}))


def run_stage(body: Callable[[Stage], None], name: str, item: Mapping[str, str], root: Path | None = None) -> int:
    """Run one stage in this process. Returns the exit status."""
    try:
        check_code((root or Path.cwd()).absolute())
        stage = Stage((root or Path.cwd()).absolute(), name, item)
        with alone(stage.root, stage.name), stage.guarded():
            if "DVC_STAGE" in os.environ:  # by hand, a stage works on what is there
                stage.check_deps()
            body(stage)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stopped:
        print(f"error: stage {name}: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print(f"error: stage {name} was interrupted; nothing half-written was left behind", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: stage {name}: {error.strerror or error} ({error.filename or 'no file named'})", file=sys.stderr)
        return 1
    return 0
