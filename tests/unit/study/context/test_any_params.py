"""Any settings at all: either they are right, or there is a sentence for every mistake; never a traceback.

``TURNOVER_FUZZ=200000 pytest tests/unit/study/context/test_any_params.py`` tries that many; the suite a few hundred.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.context.declaration import read_yaml
from study.context.params import ParamsError, check_params
from study.networks.masked import check_networks
from tests.support import ROOT

T = TypeVar("T")
RAW = read_yaml(ROOT / "params.yaml")
# What params.yaml may leave out.
RAW["training"] |= {"augmentation": {"flip": True, "crop": 2, "translate": 1}, "dynamics_epochs": [0, 1, 3, 15]}
RAW["training"] |= {"keep_checkpoints": [1], "momentum": 0.5, "clip_norm": 1.0, "compile": False}
RAW["estimate"]["influence"] |= {"localized": True, "sharpness": 2.0}

EXAMPLES = int(os.environ.get("TURNOVER_FUZZ", "300"))
tried = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

numbers = st.one_of(
    st.integers(-3, 300), st.sampled_from([2**31, 2**32, 2**64, 10**12, 10**30, -(10**9)]), st.floats(width=64)
)
words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["head", "all", "dropout", "a+b", "..", "cifar10", "auto", "3-1", "0-9"]),
    st.sampled_from(["folder:", "table:\0", "table-outside:", "table-outside:x", "features:x"]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, words, st.dates())
keys = st.one_of(words, st.integers(), st.none())
values = st.recursive(
    scalars, lambda of: st.one_of(st.lists(of, max_size=4), st.dictionaries(keys, of, max_size=3)), max_leaves=6
)


def paths(of: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the settings, namespaces and entries of lists among them."""
    if path:
        yield path
    for key, value in of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ():
        yield from paths(value, (*path, key))


places = st.sampled_from(list(paths(RAW)))


def changed(changes: list[tuple[tuple[Any, ...], str, Any, Any]]) -> Any:
    raw = copy.deepcopy(RAW)
    for path, how, key, value in changes:
        inner = raw
        try:
            for part in path[:-1]:
                inner = inner[part]
            if how == "put":
                inner[path[-1]] = value
            elif how == "leave out":
                del inner[path[-1]]
            else:
                inner[path[-1]][key] = value
        except (LookupError, TypeError):  # an earlier change has taken the place away
            continue
    return raw


changes = st.lists(
    st.tuples(places, st.sampled_from(["put", "leave out", "add"]), keys, values), min_size=1, max_size=3
)


def told_or(check: Callable[[], T]) -> T | None:
    """What `check` gives; or None, once its message proves to be a sentence for each mistake."""
    message = ""
    try:
        return check()
    except ParamsError as error:
        message = str(error)
    assert all(line.startswith("params.yaml: ") for line in message.split("\n")), message
    assert len(message) < 20_000
    return None


@tried
@given(changes)
def test_settings_are_right_or_told(of: list[tuple[tuple[Any, ...], str, Any, Any]]) -> None:
    checked = told_or(lambda: check_params(changed(of)))
    if checked is not None:
        assert check_params(checked.model_dump()) == checked, "what was accepted means the same when it is read again"


@tried
@given(values)
def test_any_value_in_place_of_the_settings(raw: Any) -> None:
    with pytest.raises(ParamsError):
        check_params(raw)


option_names = st.sampled_from(["channels", "hidden", "layers", "width", "seed", "groups", "name", "num_classes"])
options = st.dictionaries(
    option_names, st.one_of(st.integers(-2, 70), st.lists(st.integers(-2, 70), max_size=6)), max_size=3
)


@settings(tried, max_examples=EXAMPLES // 6)
@given(
    st.sampled_from(["cnn", "mlp", "resnet9", "resnet18", "torchvision.resnet18", "no_such"]),
    options,
    st.sampled_from(["cnn", "mlp"]),
    options,
    st.sampled_from([["head"], ["all", "dropout"], ["hidden"], [".."], ["features.2+head"]]),
)
def test_networks_can_be_built_or_it_is_told(
    name: str, of: dict[str, Any], judge: str, of_judge: dict[str, Any], placements: list[str]
) -> None:
    raw = copy.deepcopy(RAW)
    raw["model"] |= {"name": name, "options": of}
    raw["validation"]["validation"] |= {"model": judge, "options": of_judge}
    raw["placements"] = placements
    told_or(lambda: check_networks(check_params(raw)))


syntax = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from([b": ", b"- ", b"\n", b"  ", b"[", b"{", b"}", b"&a ", b"*a", b"!!int ", b"? ", b"|", b"<<: "]),
        st.sampled_from(
            [b"!!timestamp ", b"2001-13-45", b"0o9", b"1e999", b".inf", b"'", b'"\\x', b"%YAML 9\n", b"---"]
        ),
    ),
    max_size=12,
).map(b"".join)


@tried
@given(syntax)
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.ReusedAnchorWarning")
def test_any_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_bytes(content)
        with pytest.raises(ParamsError):  # nothing as short as this holds all settings
            check_params(read_yaml(path))
