"""What would be read wrongly without a word: ids, labels, features and outputs that are not what they seem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Subset,
    TensorDataset,
)

from tests.unit.turnover.reading.test_one_pass import CLASSES, NAMES, SET, N, Stream, X, Y, network
from turnover import (
    Readings,
    average_over_training,
    combine,
    influence,
    insert,
    localize,
    memorization,
    memorization_over_training,
    neighbourhood,
    read,
    sharpen,
    subnetwork,
    with_ids,
)


class Named(Dataset[Any]):
    """Examples with ids of their own, as a tuple or a dict."""

    def __init__(self, mapping: bool) -> None:
        self.mapping = mapping

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        return {"input": X[i], "labels": Y[i], "id": 500 + i} if self.mapping else (X[i], Y[i], 500 + i)


@pytest.mark.parametrize("mapping", [False, True])
def test_a_training_loop_and_a_reading_take_the_same_ids(mapping: bool) -> None:
    loader = DataLoader(Named(mapping), batch_size=8, shuffle=True)
    seen = torch.cat([ids for _, ids in with_ids(loader)])
    assert sorted(seen.tolist()) == read(network(), loader).names.tolist() == list(range(500, 500 + N))
    places = torch.cat([ids for _, ids in with_ids(loader, range(N))])
    assert sorted(places.tolist()) == list(range(N))
    if not mapping:  # or these may be two inputs and labels
        with pytest.raises(ValueError, match="ids are given twice"):
            read(network(), loader, ids=range(N))


def test_a_reading_of_a_loop_is_a_reading_of_its_loader() -> None:
    loader = DataLoader(SET, batch_size=8, shuffle=True)
    found = read(network(), with_ids(loader, NAMES))
    assert found.names.tolist() == NAMES
    assert found.fingerprint == read(network(), SET, ids=NAMES, batch_size=8).fingerprint


@pytest.mark.parametrize("ids", [NAMES[:-1], [*NAMES, "more"]])
def test_there_are_as_many_ids_as_examples(ids: list[str]) -> None:
    for data in (SET, Subset(SET, range(3)), DataLoader(SET, batch_size=4)):
        with pytest.raises(ValueError, match=rf"examples but there are {len(ids)} ids: pass one for each"):
            read(network(), data, ids=ids)
    with pytest.raises(ValueError, match="pass one for each"):
        with_ids(DataLoader(SET), ids)
    with pytest.raises(ValueError, match="pass one id for each|pass one for each"):
        read(network(), iter([(X, Y)]), ids=ids)


def test_ids_without_an_order_to_follow_are_refused() -> None:
    with pytest.raises(ValueError, match="no order that ids could follow"):
        read(network(), DataLoader(Stream(), batch_size=5, num_workers=2), ids=NAMES)
    with pytest.raises(ValueError, match="a DistributedSampler gives each process a part"):
        read(network(), DataLoader(SET, sampler=DistributedSampler(SET, num_replicas=3, rank=0)))
    with pytest.raises(ValueError, match="pass it as batch_sampler="):
        read(network(), DataLoader(SET, batch_size=None, sampler=BatchSampler(range(N), 4, False)))
    with pytest.raises(ValueError, match="beyond 63 bits: pass them as names"):
        read(network(), X, Y, np.arange(N, dtype=np.uint64) + np.uint64(1 << 63))
    with pytest.raises(TypeError, match="integers or strings"):
        read(network(), X, Y, [0, *NAMES[1:]])


def test_an_iterable_data_set_is_data() -> None:
    assert len(read(network(), Stream())) == N


@pytest.mark.parametrize("classes", [{"a", "b", "c"}, {"a": 2, "b": 1, "c": 0}])
def test_classes_have_an_order(classes: Any) -> None:
    labels = ["abc"[label] for label in Y]
    with pytest.raises(ValueError, match="pass the list of the classes' names"):
        read(network(), X, labels, classes=classes)
    with pytest.raises(ValueError, match="4 classes are named, but the network has 3"):
        read(network(), X, labels, classes=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="hold a name twice"):
        read(network(), X, labels, classes=["a", "b", "c", "a"])


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, CLASSES)
    return insert(nn.Sequential(*layers))


@pytest.mark.parametrize("features", ["0", lambda x: x])
def test_examples_and_targets_are_compared_by_the_same_features(features: Any, tmp_path: Path) -> None:
    model, targets = deep(), (X[:5], Y[:5])
    train = read(model, X, Y, features=features)
    raw = influence(model, torch.arange(N), *targets)
    expected = localize(raw, model, X, X[:5], features=features)
    for of in (targets, (TensorDataset(*targets),)):
        torch.testing.assert_close(influence(model, train, *of, estimate="localized"), expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(expected, localize(raw, model, X, X[:5]), atol=1e-3)
    alike = read(model, *targets, features=features, inputs=True)
    torch.testing.assert_close(influence(model, train, alike, estimate="localized"), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="read both alike"):
        influence(model, train, read(model, *targets), estimate="localized")
    train.save(tmp_path)
    if callable(features):
        with pytest.raises(ValueError, match="given by a function, which is not kept"):
            influence(model, Readings.load(tmp_path), *targets)
    else:
        loaded = influence(model, Readings.load(tmp_path), *targets, estimate="localized")
        torch.testing.assert_close(loaded, expected, rtol=1e-3, atol=1e-5)


def test_features_of_another_layer_and_a_call_of_the_user_go_together() -> None:
    model, batches = deep(), [{"numbers": X[:20], "labels": Y[:20]}, {"numbers": X[20:], "labels": Y[20:]}]

    def forward(network: nn.Module, batch: Any) -> Tensor:
        logits: Tensor = network(batch["numbers"])
        return logits

    train = read(model, batches, features="0", forward=forward)
    found = influence(model, train, batches, forward=forward)
    torch.testing.assert_close(found, influence(model, read(model, X, Y, features="0"), X, Y), rtol=1e-3, atol=1e-5)


def test_why_readings_of_targets_do_not_do() -> None:
    model = network()
    with pytest.raises(ValueError, match="were read with masked=False"):
        influence(model, (X, Y), read(model, X[:3], Y[:3], masked=False))


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ({}, {"masked": False}, "masked"),
        ({"masked": False}, {}, "masked"),
        ({}, {"features": False}, "features"),
        ({"features": False}, {}, "features"),
        ({}, {"features": "0"}, "features"),
        ({"features": "0"}, {"features": "2"}, "features"),
        ({}, {"precision": "float16"}, "precision"),
    ],
)
def test_what_is_appended_is_read_alike(first: Any, second: Any, what: str, tmp_path: Path) -> None:
    model = deep()
    before = read(model, X[:20], Y[:20], range(20), folder=tmp_path, **first).fingerprint
    with pytest.raises(ValueError, match=f"read with another {what}=.*pass the same {what}"):
        read(model, X[20:], Y[20:], range(20, N), folder=tmp_path, **second)
    assert Readings.load(tmp_path).fingerprint == before
    assert len(read(model, X[20:], Y[20:], range(20, N), folder=tmp_path, **first)) == N


@pytest.mark.parametrize(
    "change", [{"classes": 2}, {"short": False}, {"layer": "0"}, {"features": None}, {"model": "x"}]
)
def test_a_changed_manifest_is_noticed(change: dict[str, Any], tmp_path: Path) -> None:
    read(network(), SET, folder=tmp_path)
    path = tmp_path / "readings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="its entries are not those that were written"):
        Readings.load(tmp_path)
    for content in ("[]", "null", "{"):
        path.write_text(content)
        with pytest.raises(ValueError, match="is damaged"):
            Readings.load(tmp_path)


def test_frames_with_ids_as_their_index() -> None:
    model = network()
    scores, near = memorization(model, SET, neighbours=False), neighbourhood(model, SET)
    right = sharpen(scores, near).set_index("id")["sharpened"]
    average = average_over_training(memorization_over_training(model, [model.state_dict()] * 2, SET))
    for frame in (scores, average):
        turned = frame.sort_values("loss").set_index("id")
        found = sharpen(turned, near)["sharpened"]
        np.testing.assert_allclose(found.loc[right.index], right, rtol=1e-5)
    with pytest.warns(UserWarning, match="pass ids to neighbourhood"):
        sharpen(average, neighbourhood(model, X, Y))
    both = combine(frame for frame in (scores.assign(file="a"), scores.set_index("id").assign(file="b")))
    np.testing.assert_allclose(both["loss"], scores["loss"])


def test_several_networks_read_the_same_data() -> None:
    models = [network(), network()]
    for ask in (
        lambda: memorization(models, iter([(X, Y)])),
        lambda: influence(models, iter([(X, Y)]), X[:3], Y[:3]),
        lambda: influence(models, (X, Y), iter([(X, Y)])),
    ):
        with pytest.raises(ValueError, match="an iterator is gone through once"):
            ask()
    targets = [
        read(models[0], X[:3], Y[:1].repeat(3), list("abc")),
        read(models[1], X[:3], Y[:1].repeat(3), list("cba")),
    ]
    with pytest.raises(ValueError, match="other targets than network 1, or in another order"):
        influence(models, [read(model, SET) for model in models], targets)
    with pytest.raises(ValueError, match="2 readings but one network"):
        memorization(models[0], [read(models[0], SET)] * 2)


class Tail(nn.Module):
    """Goes on behind its head for some examples only."""

    def __init__(self, tail: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.tail = nn.Linear(6, 48), nn.Linear(48, CLASSES), tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.head(self.body(x).relu()))


def test_a_tail_that_shows_late_is_not_lost() -> None:
    torch.manual_seed(0)
    model, x = insert(Tail(lambda z: z.clamp(-3, 3))).eval(), torch.cat([X * 0.1, X * 30])
    y, ids = torch.cat([Y, Y]), torch.arange(2 * N)
    found = memorization(model, x, y, ids, batch_size=N)
    for flipped, name in ((False, "loss_exposed"), (True, "loss_flipped")):
        with torch.no_grad(), subnetwork(model, ids, flipped=flipped):
            np.testing.assert_allclose(found[name], F.cross_entropy(model(x), y, reduction="none"), atol=1e-4)
    raw = torch.stack([_by_hand(model, i, x, y) for i in range(4)])
    torch.testing.assert_close(influence(model, torch.arange(4), (x, y)), raw, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="pass targets=\\(x, y\\)"):
        influence(model, torch.arange(4), x, y)


def _by_hand(model: nn.Module, i: int, x: Tensor, y: Tensor) -> Tensor:
    losses = []
    for flipped in (True, False):
        with torch.no_grad(), subnetwork(model, [i] * len(x), flipped=flipped):
            losses.append(F.cross_entropy(model(x), y, reduction="none"))
    return losses[0] - losses[1]


def test_probabilities_in_small_batches_are_refused() -> None:
    model = insert(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()))
    with pytest.raises(ValueError, match="gives probabilities, not logits"):
        memorization(model, DataLoader(TensorDataset(X, Y.clamp(max=1)), batch_size=4))


class Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.EmbeddingBag(50, 64), nn.Linear(64, CLASSES)

    def forward(self, texts: list[str]) -> Tensor:
        codes = [torch.tensor([ord(letter) - ord("a") for letter in text]) for text in texts]
        offsets = torch.tensor([0, *map(len, codes)]).cumsum(0)[:-1]
        return self.head(self.embed(torch.cat(codes), offsets))


def test_batches_that_are_no_tensors() -> None:
    model, texts = insert(Texts()), [chr(ord("a") + n % 20) * (1 + n % 3) for n in range(N)]
    pairs = [(text, int(label)) for text, label in zip(texts, Y, strict=True)]

    def forward(network: nn.Module, batch: Any) -> Tensor:
        logits: Tensor = network(batch[0])
        return logits

    whole = memorization(model, DataLoader(pairs, batch_size=32), forward=forward)  # type: ignore[arg-type]
    some = memorization(model, DataLoader(pairs, batch_size=5), forward=forward)  # type: ignore[arg-type]
    np.testing.assert_allclose(whole["loss"], some["loss"], atol=1e-5)
    with pytest.raises(ValueError, match="cannot be cut out of batches"):
        read(model, DataLoader([*pairs, ("a", -100)], batch_size=32), forward=forward)  # type: ignore[arg-type]


def test_autocast_is_for_networks() -> None:
    model = network()
    plain = memorization(model, SET), influence(model, SET, SET)
    with torch.autocast("cpu", torch.bfloat16):
        cast = memorization(model, SET), influence(model, SET, SET)
    assert np.corrcoef(plain[0]["sharpened"], cast[0]["sharpened"])[0, 1] > 0.99
    assert torch.corrcoef(torch.stack([plain[1].flatten(), cast[1].flatten()]))[0, 1] > 0.99


def test_lazy_layers_are_named() -> None:
    with pytest.raises(ValueError, match="lazy layers, whose shapes are not known yet"):
        read(nn.Sequential(nn.LazyLinear(3)), SET)


class Forever(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


def test_nothing_is_nothing() -> None:
    with pytest.raises(ValueError, match="no examples in the data"):
        read(network(), Forever())
    for size in (0, 2.0):
        with pytest.raises(ValueError, match="it must be a positive integer"):
            read(network(), X, Y, batch_size=size)  # type: ignore[arg-type]
