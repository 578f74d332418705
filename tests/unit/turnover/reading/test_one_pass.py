"""Data in whatever form give the same readings, each example once; what cannot be read is refused by name."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from turnover import insert, memorization, neighbourhood, read, subnetwork, with_ids
from turnover.batches.outputs import Reader

N, CLASSES = 37, 3
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, 6, generator=GENERATOR)
Y = torch.randint(CLASSES, (N,), generator=GENERATOR)
NAMES = [f"image-{n:03}" for n in range(N)]


def network(out: int = CLASSES, width: int = 48) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return insert(nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, out)))


class Dicts(Dataset[dict[str, Any]]):
    """As Hugging Face's data sets give them: the input under the name of the network's argument, and a bit of text."""

    def __init__(self, names: list[str] | None = None) -> None:
        self.names = names

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Any]:
        named = {"ids": self.names[i]} if self.names else {}
        return {"input": X[i], "label": int(Y[i]), "text": f"row {i}", **named}


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(zip(X, Y, strict=True))


def hugging_face(**columns: Any) -> Any:
    """The same in a data set of Hugging Face's library, which gives lists of numbers."""
    from datasets import Dataset as Table

    return Table.from_dict({"input": X.tolist(), "label": Y.tolist(), "text": NAMES, **columns})


def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in rows]), torch.tensor([int(y) for _, y in rows])


SET = TensorDataset(X, Y)
FORMS: dict[str, Callable[[], Any]] = {
    "data set": lambda: SET,
    "loader": lambda: DataLoader(SET, batch_size=7),
    "loader, shuffled": lambda: DataLoader(SET, batch_size=7, shuffle=True, drop_last=True),
    "loader, shuffled, generator": lambda: DataLoader(
        SET, batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(1)
    ),
    "loader, 2 workers, shuffled": lambda: DataLoader(SET, batch_size=7, num_workers=2, shuffle=True),
    "loader, 2 workers, own collate": lambda: DataLoader(SET, batch_size=7, num_workers=2, collate_fn=collate),
    "loader without batches of its own": lambda: DataLoader(
        [(X[i : i + 5], Y[i : i + 5]) for i in range(0, N, 5)],  # type: ignore[arg-type]
        batch_size=None,
    ),
    "loader of batches of like length": lambda: DataLoader(SET, batch_sampler=[range(20), range(20, N)]),  # type: ignore[list-item]
    "dicts": lambda: Dicts(),
    "loader of dicts": lambda: DataLoader(Dicts(), batch_size=7, shuffle=True),
    "Hugging Face": hugging_face,
    "Hugging Face, tensors": lambda: hugging_face().with_format("torch"),
    "loader of Hugging Face": lambda: DataLoader(hugging_face().with_format("torch"), batch_size=7, shuffle=True),
    "stream": lambda: DataLoader(Stream(), batch_size=7),
    "stream, 1 worker": lambda: DataLoader(Stream(), batch_size=7, num_workers=1),
    "generator of batches": lambda: ((X[i : i + 6], Y[i : i + 6]) for i in range(0, N, 6)),
    "list of batches": lambda: [(X[i : i + 6], Y[i : i + 6]) for i in range(0, N, 6)],
    "list of examples": lambda: list(zip(X, Y.tolist(), strict=True)),
    "tuple of tensors": lambda: (X, Y),
    "tuple with ids": lambda: (X, Y.numpy(), np.arange(N)),
    "batches with ids": lambda: [(X[i : i + 6], Y[i : i + 6], torch.arange(N)[i : i + 6]) for i in range(0, N, 6)],
}


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    return memorization(network(), X, Y, torch.arange(N))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form: str, expected: pd.DataFrame) -> None:
    found = memorization(network(), FORMS[form]())
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5)
    assert expected["loss"].abs().mean() > 0.05


def test_order_and_bits_do_not_depend_on_shuffling() -> None:
    plain, shuffled = (read(network(), DataLoader(SET, batch_size=7, shuffle=of)) for of in (False, True))
    assert plain.fingerprint == shuffled.fingerprint


def test_reading_leaves_random_numbers_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(SET, batch_size=7, sampler=SubsetRandomSampler(range(N), generator), generator=generator)
    before, others = torch.get_rng_state(), generator.get_state()
    read(network(), loader)
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(others, generator.get_state())


def test_names_come_back_and_decide_the_masks() -> None:
    model = network()
    by_name = memorization(model, SET, ids=NAMES)
    assert by_name["id"].tolist() == NAMES
    pd.testing.assert_frame_equal(by_name, memorization(model, Dicts(NAMES)), rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(by_name, memorization(model, X, Y, pd.Series(NAMES)), rtol=1e-4, atol=1e-5)
    with torch.no_grad(), subnetwork(model.eval(), NAMES):
        loss = F.cross_entropy(model(X), Y, reduction="none")
    np.testing.assert_allclose(by_name["loss_exposed"], loss, atol=1e-5)
    by_place = memorization(model, SET)
    assert not np.allclose(by_name["loss_exposed"], by_place["loss_exposed"], atol=0.01)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.uint32, np.uint64, np.int64])
def test_ids_of_any_integer_type(dtype: type, expected: pd.DataFrame) -> None:
    ids = np.arange(N).astype(dtype)
    pd.testing.assert_frame_equal(memorization(network(), X, Y, ids), expected)
    pd.testing.assert_frame_equal(memorization(network(), X, Y, torch.from_numpy(ids)), expected)


def test_labels_as_strings() -> None:
    classes = ["cat", "dog", "emu"]
    text = [classes[label] for label in Y]
    found = read(network(), X, text, classes=classes)
    assert torch.equal(found.labels, Y)
    assert torch.equal(read(network(), list(zip(X, text, strict=True)), classes=classes).labels, Y)
    with pytest.raises(ValueError, match="y hold 'emu', which is not among classes: cat, dog"):
        read(network(), X, text, classes=classes[:2])
    with pytest.raises(TypeError, match=r"y are strings: pass classes=\[\.\.\.\]"):
        read(network(), X, text)
    with pytest.raises(ValueError, match="pass the list of the classes' names"):
        read(network(), X, text, classes="cat")


def test_ignored_labels_are_left_out_and_counted(expected: pd.DataFrame) -> None:
    some = Y.clone()
    some[[2, 30]] = -100
    with pytest.warns(UserWarning, match="2 examples with the label -100 were left out"):
        found = memorization(network(), TensorDataset(X, some), neighbours=False)
    rest = expected.drop([2, 30])[list(found)].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, rest, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no examples in the data: all 37 were left out"):
        read(network(), X, torch.full((N,), -100))


@pytest.mark.parametrize("shape", ["[n, 1]", "[n]"])
@pytest.mark.parametrize("after", ["head", ["1"]])
def test_a_head_with_one_logit_is_a_head_with_two(shape: str, after: Any) -> None:
    torch.manual_seed(1)
    flat: tuple[nn.Module, ...] = (nn.Flatten(0),) if shape == "[n]" else ()
    model = insert(nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 1), *flat), after=after).eval()
    y = Y.clamp(max=1)
    found = memorization(model, X, y, torch.arange(N))
    assert read(model, X, y).classes == 2
    for flipped, column in ((False, "loss_exposed"), (True, "loss_flipped")):
        with torch.no_grad(), subnetwork(model, torch.arange(N), flipped=flipped):
            loss = F.binary_cross_entropy_with_logits(model(X).view(-1), y.float(), reduction="none")
        np.testing.assert_allclose(found[column], loss, atol=1e-5)
    pd.testing.assert_frame_equal(memorization(model, X, y.float(), torch.arange(N)), found)  # as its loss takes them


def test_only_the_examples_of_a_sampler_are_read() -> None:
    loader = DataLoader(SET, batch_size=4, sampler=SubsetRandomSampler([30, 3, 11, 4, 5]))
    assert read(network(), loader).names.tolist() == [3, 4, 5, 11, 30]
    assert len(read(network(), Subset(SET, [30, 3]))) == 2
    with pytest.raises(ValueError, match=r"visits example \d+ \d+ times \(sampler WeightedRandomSampler\)"):
        read(network(), DataLoader(SET, batch_size=4, sampler=WeightedRandomSampler([1.0] * N, 2 * N)))


def test_numbers_in_lists_are_inputs(expected: pd.DataFrame) -> None:
    rows = [{"input": x.tolist(), "label": int(y)} for x, y in zip(X, Y, strict=True)]
    pd.testing.assert_frame_equal(memorization(network(), rows), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="pass a DataLoader with a collate_fn"):
        read(network(), [*rows, {"input": [0.0], "label": 1}])


class Two(nn.Module):
    """Takes two inputs, and answers as asked."""

    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.classify, self.answer = nn.Linear(6, 32), nn.Linear(32, CLASSES), answer

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Any:
        hidden = self.body(values).relu()
        return self.answer(self.classify(hidden if mask is None else hidden * mask))


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "tensor": lambda z: z,
    "dict": lambda z: OrderedDict(loss=None, logits=z),
    "attribute": lambda z: SimpleNamespace(logits=z),
    "tuple": lambda z: (z, None),
}
INPUTS: dict[str, Any] = {
    "one": X,
    "tuple": (X, torch.ones(N, 1)),
    "dict": {"values": X, "mask": torch.ones(N, 1)},
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_outputs_and_inputs_of_all_kinds(answer: str, inputs: str) -> None:
    torch.manual_seed(0)
    model = insert(Two(ANSWERS[answer]))
    plain = insert(Two(ANSWERS["tensor"]))
    plain.load_state_dict(model.state_dict())
    found, right = memorization(model, INPUTS[inputs], Y), memorization(plain, X, Y)
    pd.testing.assert_frame_equal(found, right)
    pairs = [(x, y) for x, y in zip(X, Y.tolist(), strict=True)]
    if inputs == "tuple":
        pairs = [((x, torch.ones(1)), y) for x, y in pairs]  # type: ignore[misc]
        pd.testing.assert_frame_equal(memorization(model, pairs), right)


def test_forward_maps_a_whole_batch_to_logits() -> None:
    torch.manual_seed(0)
    model = insert(Two(lambda z: {"scores": [z]}))
    plain = insert(Two(lambda z: z))
    plain.load_state_dict(model.state_dict())
    batches = [{"a": X[i : i + 6], "labels": Y[i : i + 6]} for i in range(0, N, 6)]
    with pytest.raises(ValueError, match=r"of type dict with scores, in which there are no logits: pass forward="):
        memorization(model, X, Y)
    found = memorization(model, batches, forward=lambda network, batch: network(batch["a"])["scores"][0])
    pd.testing.assert_frame_equal(found, memorization(plain, X, Y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, "data is a Tensor without labels: pass \\(x, y\\)"),
        ({"input": X}, "without labels"),
        (5, "data is a int: pass a Dataset"),
        ([{"input": X}], "a batch has no labels among its keys input"),
        ([(X, X, Y)], r"several inputs are \(\(x1, x2\), y\)"),
        ([(X,)], "a batch is a list of 1"),
        ([(X, Y[:5])], "37 inputs but 5 labels"),
        ([(X, Y, torch.arange(5))], "37 examples but 5 ids"),
        ([(X, Y, torch.rand(N))], "ids must be integers or strings"),
        (TensorDataset(X, Y[:, None]), r"got shape \(37, 1\): pass labels\.squeeze\(1\)"),
        (TensorDataset(X, torch.rand(N)), "the numbers of a regression, or soft labels, are no classes"),
        (TensorDataset(X[:0], Y[:0]), "is empty"),
        (DataLoader(Stream(), batch_size=5, num_workers=2), "with 2 workers has no order"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(data: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        read(network(), data)


def test_other_mistakes() -> None:
    with pytest.raises(TypeError, match="labels come with the batches; leave y out"):
        read(network(), DataLoader(SET), Y)
    with pytest.raises(TypeError, match="gives a tuple when sliced.*leave y out"):
        read(network(), SET, Y)
    for model in ("resnet", ["a"]):
        with pytest.raises(TypeError, match=r"pass a torch\.nn\.Module"):
            memorization(model, SET)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the data set has 37 examples but there are 5 ids"):
        read(network(), SET, ids=range(5))
    with pytest.raises(ValueError, match="ids are given twice"):
        read(network(), (X, Y, Y), ids=Y)
    with pytest.raises(ValueError, match="call read"):
        memorization(network(), read(network(width=50), SET))
    with pytest.raises(ValueError, match="full network only"):
        memorization(network(), read(network(), SET, masked=False))
    with pytest.raises(TypeError, match="labels must be integers.* got floats"):
        read(network(), X, Y.clamp(max=1).float())


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 16 * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


def heads() -> Iterator[tuple[str, nn.Module, bool]]:
    torch.manual_seed(0)
    yield "plain", nn.Linear(32, CLASSES), True
    yield "without bias", nn.Linear(32, CLASSES, bias=False), True
    yield "subclass", Cosine(32, CLASSES), False
    yield "weight norm", nn.utils.parametrizations.weight_norm(nn.Linear(32, CLASSES)), False
    yield "compiled", nn.Linear(32, CLASSES), False
    hooked = nn.Linear(32, CLASSES)
    hooked.register_forward_hook(lambda module, args, out: out * 5)
    yield "hook", hooked, False
    before = nn.Linear(32, CLASSES)
    before.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    yield "hook before", before, False
    replaced = nn.Linear(32, CLASSES)
    replaced.forward = lambda x: F.linear(x, replaced.weight) + 3  # type: ignore[method-assign]
    yield "forward replaced", replaced, False
    yield "and on", nn.Sequential(nn.Linear(32, CLASSES), nn.Tanh()), False


@pytest.mark.parametrize(("name", "head", "short"), list(heads()))
def test_the_short_way_is_taken_where_it_is_right(name: str, head: nn.Module, short: bool) -> None:
    model = insert(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), head)).eval()
    if name == "compiled":
        head.compile(backend="eager")
    ids = torch.arange(N)
    reader = Reader(model)
    with torch.no_grad():
        found, _ = reader(X, ids)
        assert (reader.short is not None) is short
        for flipped, logits in ((False, found.exposed), (True, found.flipped)):
            with subnetwork(model, ids, flipped=flipped):
                torch.testing.assert_close(logits, model(X))


def test_probabilities_are_refused() -> None:
    for end, out in ((nn.Softmax(1), CLASSES), (nn.Sigmoid(), 1)):
        model = insert(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, out), end))
        with pytest.raises(ValueError, match="gives probabilities, not logits"):
            memorization(model, X, Y.clamp(max=out))


class Tokens(nn.Module):
    """As a language model that classifies: logits of every token, of which those of the last one are given."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.score = nn.Embedding(50, 16), nn.Linear(16, 32), nn.Linear(32, CLASSES)

    def forward(self, input_ids: Tensor) -> Any:
        logits = self.score(self.mix(self.embed(input_ids)).relu().cumsum(1))
        return SimpleNamespace(logits=logits[torch.arange(len(logits)), (input_ids != 0).sum(1) - 1])


def test_the_head_of_one_token_is_found() -> None:
    torch.manual_seed(0)
    model = insert(Tokens()).eval()
    tokens = torch.randint(1, 50, (N, 9))
    tokens[::2, 6:] = 0
    reader, ids = Reader(model), torch.arange(N)
    with torch.no_grad():
        found, features = reader(tokens, ids)
        assert reader.short is not None and features is not None and features.shape == (N, 32)
        with subnetwork(model, ids):
            torch.testing.assert_close(found.exposed, model(tokens).logits)
    padded = [({"input_ids": tokens[:20, :9], "labels": Y[:20]}), ({"input_ids": tokens[20:, :8], "labels": Y[20:]})]
    assert len(memorization(model, padded)) == N  # batches of other lengths


def test_a_network_without_features_has_no_sharpened_scores() -> None:
    layers = nn.Unflatten(1, (6, 1)), nn.Conv1d(6, 32, 1), nn.ReLU(), nn.Conv1d(32, 3, 1), nn.Flatten()
    model = insert(nn.Sequential(*layers), ["2"])
    with pytest.warns(UserWarning, match="no column sharpened"):
        found = memorization(model, X, Y)
    assert "sharpened" not in found
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "sharpened" in memorization(model, X, Y, features="2")
    with pytest.raises(ValueError, match="name a module in `features`"):
        neighbourhood(model, X, Y)


@pytest.mark.parametrize("ids", [None, NAMES, torch.arange(N) + 100])
def test_ids_of_a_shuffled_training_loop_are_those_of_a_reading(ids: Any) -> None:
    rows = {tuple(x.tolist()): n for n, x in enumerate(X)}
    seen = []
    batches = with_ids(DataLoader(SET, batch_size=8, shuffle=True, num_workers=2, persistent_workers=True), ids)
    assert len(batches) == 5
    for _ in range(2):
        epoch = [(rows[tuple(row.tolist())], i) for (x, _), of in batches for row, i in zip(x, of, strict=True)]
        seen.append([n for n, _ in epoch])
        for n, i in epoch:
            assert i == (n if ids is None else ids[n])
    assert sorted(seen[0]) == list(range(N)) and seen[0] != seen[1]


def test_ids_of_what_has_no_places_are_refused() -> None:
    with pytest.raises(TypeError, match="with a length"):
        with_ids(DataLoader(Stream()))
    with pytest.raises(TypeError, match="batch_size=None"):
        with_ids(DataLoader(SET, batch_size=None))
