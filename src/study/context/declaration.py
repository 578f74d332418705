"""What `dvc.yaml` declares for a stage, its templates filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from study.context.params import ParamsError
from turnover.errors import UserError, reason

_TEMPLATE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Declaration:
    """One stage of `dvc.yaml`, its templates filled in."""

    name: str
    cmd: str
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]


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
        return tuple(str(_fill(next(iter(entry)) if isinstance(entry, dict) else entry, values)) for entry in entries)

    return Declaration(
        name=name + suffix,
        cmd=str(_fill(raw["cmd"], values)),
        params=paths("params"),
        deps=paths("deps"),
        outs=paths("outs", "metrics", "plots"),
    )


def _fill(template: Any, values: Mapping[str, Any]) -> Any:
    """Replace every ``${a.b}``; a template that is nothing else becomes the value itself."""

    def look_up(match: re.Match[str]) -> Any:
        return reduce(getitem, match[1].split("."), values)

    if not isinstance(template, str):
        return template
    whole = _TEMPLATE.fullmatch(template)
    return look_up(whole) if whole else _TEMPLATE.sub(lambda match: str(look_up(match)), template)


def within(path: str, declared: tuple[str, ...]) -> bool:
    return any(path == other or path.startswith(other.rstrip("/") + "/") for other in declared)


def read_yaml(path: Path) -> Any:
    """Parse one of the two files that describe the pipeline; a `ParamsError` says what is wrong with it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path.name} is missing: run in the root of the repository") from None
    except OSError as error:
        raise ParamsError(f"{path.name} cannot be read: {reason(error)}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path.name} is not valid YAML: line {line} is not UTF-8") from None
    except RecursionError:
        raise ParamsError(f"{path.name} is not valid YAML: it is nested too deeply") from None
    except YAMLError as error:
        raise ParamsError(f"{path.name} is not valid YAML: {error}") from None
    except Exception as error:  # ruamel's own, for dates and numbers that there are not, tags, and more
        raise ParamsError(f"{path.name} is not valid YAML: {type(error).__name__}: {error}") from None
