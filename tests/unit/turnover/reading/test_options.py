"""What is given to the public calls in the wrong place or kind is refused by them all, in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tests.unit.turnover.reading.test_one_pass import SET, N, X, Y, network
from turnover import (
    Localized,
    Readings,
    ScoreStore,
    average_over_training,
    calibrate,
    combine,
    influence,
    localize,
    memorization,
    memorization_over_training,
    neighbourhood,
    pool_within_classes,
    read,
    sharpen,
    summarize,
)
from turnover.errors import UserError

IDS, ONES = torch.arange(N), torch.ones(N, N)
CALLS: dict[str, Callable[..., Any]] = {
    "read": lambda model, **options: read(model, SET, **options),
    "memorization": lambda model, **options: memorization(model, SET, **options),
    "neighbourhood": lambda model, **options: neighbourhood(model, SET, **options),
    "influence": lambda model, **options: influence(model, (X, Y), (X, Y), **options),
    "summarize": lambda model, **options: summarize(model, (X, Y), (X, Y), **options),
    "over training": lambda model, **options: memorization_over_training(model, [{}], SET, **options),
    "localize": lambda model, **options: localize(ONES, model, X, X, **options),
}
ALL = ("read", "memorization", "neighbourhood", "influence", "summarize")


@pytest.mark.parametrize("several", [list, tuple, nn.ModuleList])
@pytest.mark.parametrize("name", ["read", "neighbourhood", "over training", "localize"])
def test_one_network_is_not_a_list_of_them(name: str, several: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="is given where one network is asked for: call this for each"):
        CALLS[name](several([network(), network()]))


def test_readings_are_of_one_network() -> None:
    model = network()
    with pytest.raises(TypeError, match="a list is given where one network is asked for"):
        neighbourhood([model], read(model, SET))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["resnet", 5, lambda x: x, ["resnet"], None])
@pytest.mark.parametrize("name", CALLS)
def test_a_network_is_a_module(name: str, model: Any) -> None:
    with pytest.raises(TypeError, match=r"pass a torch\.nn\.Module|a list is given where one network"):
        CALLS[name](model)


@pytest.mark.parametrize("name", ["memorization", "influence", "summarize"])
def test_no_network_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="no model was given"):
        CALLS[name]([])


def test_a_module_list_is_a_list() -> None:
    models = [network(), network()]
    together = nn.ModuleList(models)
    pd.testing.assert_frame_equal(memorization(together, SET), memorization(models, SET))
    assert torch.equal(influence(together, SET, SET), influence(models, SET, SET))  # type: ignore[arg-type]


WRONG: list[tuple[tuple[str, ...], str, list[Any], str]] = [
    (ALL, "memory", ["1GB", 2.5, 1e9, -1, None, True], "it must be a number of bytes, an integer such as 1 << 30"),
    ((*ALL, "over training"), "batch_size", ["3", 0, 2.0, None, True], "it must be a positive integer"),
    (ALL, "forward", ["x", 5], "it must be a function of"),
    (ALL, "classes", ["abc", 5, [1, 2, 3], {"a": 0}], "pass the list of the classes' names, strings"),
    (ALL[:3] + ALL[4:], "progress", ["yes", 3], "it must be True, False or None"),
    (("memorization", "neighbourhood", "localize"), "features", [5, False, ["0"]], "it must be the name of a module"),
    (("read",), "features", [5, True, ["0"]], "it must be the name of a module"),
    (("read",), "masked", ["no", 1, None], "it must be True or False"),
    (("read",), "logits", ["x"], "it must be True or False"),
    (("read",), "inputs", ["x"], "it must be True or False"),
    (("read",), "folder", [5, True], "it must be a path or None"),
    (("read",), "precision", [32, "int8", ["float32"], None], 'use "float32", "float16" or "bfloat16"'),
    (("memorization",), "neighbours", ["x", None], "it must be True or False"),
    (("neighbourhood", "localize"), "ridge", ["a", None, 0, -1.0, float("nan"), True], "it must be a positive number"),
    (("neighbourhood", "localize"), "sharpness", ["a", float("inf")], "it must be a positive number"),
    (("neighbourhood",), "leverage_ridge", ["a"], "it must be a positive number"),
    (("neighbourhood",), "references", ["a", 2.5, 0, True], "it must be an integer, at least 1, or None"),
    (("influence", "summarize"), "fused", ["x", 3], "it must be True, False or None"),
    (("influence", "summarize"), "measure", ["x"], 'use "loss" or "margin"'),
    (
        ("influence", "summarize"),
        "estimate",
        [5, ["raw"]],
        'use "raw", "localized", "pooled", "left-out" or "combined"',
    ),
    (("influence", "summarize"), "precision", [5, ["float32"]], 'use "float32" or "bfloat16"'),
    (("summarize",), "top", [2.0, "3", -1, None, True], "it must be an integer that is not negative"),
    (("summarize",), "top_targets", [2.0, "3"], "it must be an integer that is not negative"),
]


@pytest.mark.parametrize(
    ("name", "option", "value", "must"),
    [(name, option, value, must) for names, option, values, must in WRONG for name in names for value in values],
)
def test_options_of_another_kind(name: str, option: str, value: Any, must: str) -> None:
    with pytest.raises(UserError, match=rf"^{option}(=| is a ).*: {must}") as caught:
        CALLS[name](network(), **{option: value})
    assert "\n" not in str(caught.value)


def test_options_of_numpy_are_numbers() -> None:
    small = {"memory": np.int64(1 << 24), "batch_size": np.int32(8)}
    for name in ALL:
        CALLS[name](network(), **small)
    summarize(network(), (X, Y), (X, Y), top=np.int64(2))  # type: ignore[arg-type]


def test_settings_of_other_calls() -> None:
    scores = memorization(network(), SET, neighbours=False)
    for ask in (
        lambda: Localized(X, ridge="a"),  # type: ignore[arg-type]
        lambda: Localized(X, features=5),  # type: ignore[arg-type]
        lambda: pool_within_classes(ONES, ONES, Y, strength="a"),  # type: ignore[arg-type]
        lambda: calibrate(scores, scores, false_discovery_rate="a"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UserError, match="it must"):
            ask()
    with pytest.raises(TypeError, match=r"store is a str: pass ScoreStore\(folder\)"):
        summarize(network(), (X, Y), (X, Y), store="scores")  # type: ignore[arg-type]
    for ask in (
        lambda: localize(ONES.numpy(), network(), X, X),  # type: ignore[arg-type]
        lambda: pool_within_classes(ONES.numpy(), ONES, Y),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"pass torch\.from_numpy"):
            ask()


def test_frames_are_frames() -> None:
    scores, near = memorization(network(), SET, neighbours=False), neighbourhood(network(), SET)
    for ask in (
        lambda: sharpen("scores", near),  # type: ignore[arg-type]
        lambda: sharpen(scores, {"id": [1]}),  # type: ignore[arg-type]
        lambda: combine(scores),  # type: ignore[arg-type]
        lambda: combine([{"id": 1}, {}]),  # type: ignore[list-item]
        lambda: average_over_training("scores"),  # type: ignore[arg-type]
        lambda: calibrate({"id": [1]}, scores),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="pass a (frame as|list of frames)"):
            ask()
    with pytest.raises(ValueError, match="column 'loss' of placebo holds no numbers"):
        calibrate(scores, scores.assign(loss="high"))
    by_id = scores.set_index("id")  # as other calls take it
    pd.testing.assert_frame_equal(calibrate(by_id, by_id), calibrate(scores, scores))


def test_checkpoints_are_several(tmp_path: Path) -> None:
    model = network()
    for one in (model.state_dict(), "weights.pt", tmp_path):
        with pytest.raises(TypeError, match="checkpoints is a single checkpoint: pass a list"):
            memorization_over_training(model, one, SET)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="checkpoint 0, .*weights.pt, is not there"):
        memorization_over_training(model, [tmp_path / "weights.pt"], SET)
    with pytest.raises(TypeError, match="checkpoint 1 is a int: pass a state dict"):
        memorization_over_training(model, [model.state_dict(), 5], SET)  # type: ignore[list-item]


ARRAYS: list[Any] = [
    {"input": X.numpy()},
    {"input": (X.numpy(),)},
    (X.numpy(),),
    {"input": X.tolist()},
    {},
    (),
    {"input": None},
]


@pytest.mark.parametrize("x", ARRAYS)
def test_inputs_are_tensors_wherever_they_are_given(x: Any) -> None:
    model = network()
    for ask in (
        lambda: read(model, x, Y),
        lambda: influence(model, IDS, x, Y),
        lambda: influence(model, IDS, X, Y, localized=x),
        lambda: Localized(x),
        lambda: summarize(model, IDS, Y, x, Y),
    ):
        with pytest.raises(TypeError, match=r"must be a tensor|without tensors: pass a tensor"):
            ask()
    read(model, {"input": X}, Y)


def test_numbers_beside_the_inputs_do_not_go_whole_to_every_batch() -> None:
    with pytest.raises(TypeError, match=r"x\['weight'\] must be a tensor, got a numpy array"):
        read(network(), {"input": X, "weight": np.ones(N)}, Y)


def test_examples_without_labels_want_labels() -> None:
    model = network()
    for train in (X, X.numpy(), pd.DataFrame(X.numpy())):
        for ask in (influence, summarize):
            with pytest.raises(ValueError, match=r"of shape \(37, 6\), inputs without labels: pass \(x, y\)"):
                ask(model, train, (X, Y))
    for targets in (X, {"input": X}):
        with pytest.raises(TypeError, match=r"without labels: pass \(x, y\)"):
            influence(model, (X, Y), targets)
    with pytest.raises(TypeError, match=r"a single batch, a dict: pass a list of batches, or \(x, y\)"):
        influence(model, (X, Y), {"input": X, "labels": Y})


def test_readings_without_features_say_so() -> None:
    model = network()
    bare = read(model, SET, features=False)
    cure = "call read without features=False, or name a module in its `features`"
    with pytest.warns(UserWarning, match=f"no column sharpened: no features of the examples were read: {cure}"):
        assert "sharpened" not in memorization(model, bare)
    for ask in (
        lambda: neighbourhood(model, bare),
        lambda: influence(model, bare, (X, Y)),
        lambda: influence(model, (X, Y), bare),
    ):
        with pytest.raises(ValueError, match=rf"no features of the [a-z ]+ were read: {cure}"):
            ask()
    wide = network(width=5000)
    with pytest.warns(UserWarning, match="features of 5000 numbers are too wide to compare"):
        memorization(wide, SET)


def test_a_list_of_one_network_is_that_network() -> None:
    model = network()
    plain = memorization(model, SET)
    for models in ([model], (model,), (one for one in [model]), nn.ModuleList([model])):
        pd.testing.assert_frame_equal(memorization(models, SET), plain)
    pd.testing.assert_frame_equal(memorization([model], [read(model, SET)]), plain)


@pytest.mark.filterwarnings("ignore:ids repeat")
def test_views_of_one_example_in_several_networks() -> None:
    models, ids = [network(), network(width=64)], IDS // 2
    found, each = memorization(models, X, Y, ids), [memorization(model, X, Y, ids) for model in models]
    assert found["id"].tolist() == ids.tolist()
    for name in ("loss", "sharpened", "loss_full"):
        np.testing.assert_allclose(found[name], np.mean([frame[name] for frame in each], axis=0))
    with pytest.raises(ValueError, match="pass all networks to one call of memorization"):
        combine(each)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    others = [read(models[0], X, Y, ids), read(models[1], X[order], Y[order], ids[order])]
    with pytest.raises(ValueError, match="holds an id twice"):
        memorization(models, others)
    with pytest.raises(ValueError, match="id 0 stands there more than once at one checkpoint"):
        average_over_training(memorization_over_training(models[0], [models[0].state_dict()], X, Y, ids))


def test_labels_of_two_classes_may_be_floats_everywhere() -> None:
    model, y = network(out=1), Y.clamp(max=1)
    for given in (y.float(), y.double().numpy(), y.float().tolist()):
        assert torch.equal(read(model, X, given).labels, y)
        assert torch.equal(read(model, [(X, given)]).labels, y)
        assert torch.equal(influence(model, IDS, X, given), influence(model, IDS, X, y))
        data = influence(model, (X, y), (X, y))
        assert torch.equal(influence(model, (X, given), (X, given)), data)
        found, expected = summarize(model, IDS, given, X, given), summarize(model, IDS, y, X, y)
        assert torch.equal(found.total_by_class, expected.total_by_class)
    for ask in (
        lambda: read(network(), X, y.float()),
        lambda: influence(network(), IDS, X, y.float()),
        lambda: summarize(network(), IDS, y.float(), X, Y),
    ):
        with pytest.raises(TypeError, match=r"must be integers, classes counted from 0, got floats"):
            ask()


def test_readings_are_kept_in_folders(tmp_path: Path) -> None:
    found = read(network(), SET)
    for folder in (5, None):
        for ask in (found.save, Readings.load):
            with pytest.raises(UserError, match="folder(=| is)"):
                ask(folder)  # type: ignore[arg-type]
    for make in (ScoreStore, ScoreStore.load):
        with pytest.raises(UserError, match="folder=5: it must be a path"):
            make(5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match='dtype is a list: use "float32" or "float16"'):
        ScoreStore(tmp_path, ["float32"])  # type: ignore[arg-type]
