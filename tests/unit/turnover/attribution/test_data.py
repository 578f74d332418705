"""The same influence from every form of data, aligned by id; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.unit.turnover.attribution.networks import CLASSES, brute_force, examples, network
from tests.unit.turnover.attribution.whole import combined, left_out
from turnover import influence, insert, localize, pool_within_classes, read, summarize
from turnover.masking.ids import example_ids

X_TRAIN, Y_TRAIN = examples(60, seed=7)
X, Y = examples(21)
IDS = torch.arange(60)


class Dicts(Dataset[Any]):
    """Examples as a tokenizer gives them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"input": self.x[place], "labels": self.y[place]}


def recipe(model: nn.Module, ids: Tensor = IDS) -> dict[str, Tensor]:
    raw = brute_force(model, ids, X, Y)
    factor = localize(torch.ones_like(raw), model, X_TRAIN, X)
    pooled = pool_within_classes(raw * factor, factor, Y_TRAIN)
    left = left_out(model, X_TRAIN, Y_TRAIN, X, Y)
    whole = combined(left, raw * factor)
    return {"raw": raw, "localized": raw * factor, "pooled": pooled, "left-out": left, "combined": whole}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5 * float(expected.abs().max()))


def read_both(model: nn.Module) -> tuple[Any, Any]:
    return read(model, X_TRAIN, Y_TRAIN, batch_size=13), read(model, X, Y, batch_size=4, inputs=True)


FORMS: dict[str, Callable[[nn.Module], tuple[Any, Any]]] = {
    "tensors": lambda model: ((X_TRAIN, Y_TRAIN), (X, Y)),
    "data sets": lambda model: (TensorDataset(X_TRAIN, Y_TRAIN), TensorDataset(X, Y)),
    "loaders": lambda model: (
        DataLoader(TensorDataset(X_TRAIN, Y_TRAIN), batch_size=7, shuffle=True),
        DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True),
    ),
    "dicts": lambda model: (DataLoader(Dicts(X_TRAIN, Y_TRAIN), batch_size=16), Dicts(X, Y)),
    "readings": read_both,
    "iterators": lambda model: (iter([(X_TRAIN, Y_TRAIN)]), iter([(X[:9], Y[:9]), (X[9:], Y[9:])])),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["head", "all", "mlp"])
def test_every_form_gives_what_whole_matrices_give(kind: str, form: str) -> None:
    model = network(kind)
    expected = recipe(model)
    for estimate in ("combined", "left-out", "pooled", "localized", "raw"):
        train, targets = FORMS[form](model)
        close(influence(model, train, targets, estimate=estimate), expected[estimate])
    train, targets = FORMS[form](model)
    close(influence(model, train, targets), expected["combined"])
    train, targets = FORMS[form](model)
    close(influence(model, train, X, Y, "margin", estimate="raw"), brute_force(model, IDS, X, Y, "margin"))
    close(influence(model, IDS, targets), expected["raw"])


def test_readings_of_a_proved_head_are_enough_and_any_width_of_blocks_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("head")
    train, targets = read(model, X_TRAIN, Y_TRAIN), read(model, X, Y, batch_size=4)
    expected = recipe(model)
    monkeypatch.setattr(model, "forward", lambda *_: pytest.fail("the network ran again"))
    for memory in (1 << 30, 30_000):
        close(influence(model, train, targets, memory=memory), expected["combined"])
        found = summarize(model, train, targets, memory=memory)
        close(found.total, expected["combined"].sum(1))


def test_several_networks_average_each_in_its_own_space() -> None:
    models = [network("head", seed=0), network("all", seed=1), network("head", seed=2)]
    expected = torch.stack([recipe(model)["combined"] for model in models]).mean(0)
    close(influence(models, TensorDataset(X_TRAIN, Y_TRAIN), (X, Y)), expected)
    readings = [read(model, X_TRAIN, Y_TRAIN) for model in models]
    close(influence(models, readings, X, Y), expected)
    close(summarize(models, readings, X, Y).total, expected.sum(1))


@pytest.mark.parametrize("kind", ["head", "all"])
def test_names_come_back(kind: str) -> None:
    model, names = network(kind), [f"image {i}.png" for i in range(60)]
    expected = recipe(model, example_ids(names))
    assert not torch.allclose(expected["raw"], recipe(model)["raw"], atol=0.1)  # a name is not its place
    close(influence(model, names, X, Y), expected["raw"])
    close(influence(model, (X_TRAIN, Y_TRAIN, names), (X, Y)), expected["combined"])
    found = summarize(model, (X_TRAIN, Y_TRAIN, names), (X, Y), top=3, top_targets=2)
    assert found.names_of(found.train_ids) == names
    best = expected["combined"].topk(3, dim=0).indices.T
    assert found.names_of(found.helpful_ids) == [[names[i] for i in row] for row in best]
    plain = summarize(model, (X_TRAIN, Y_TRAIN), (X, Y), top=3)
    assert plain.names_of(plain.helpful_ids) == plain.helpful_ids.tolist()


@pytest.mark.parametrize("ids", [IDS.int(), IDS.numpy(), IDS.tolist(), range(60)])
def test_ids_alone_may_be_integers_in_any_form(ids: Any) -> None:
    model = network("head")
    assert torch.equal(influence(model, ids, X, Y), influence(model, IDS, X, Y))
    found = influence(model, ids, X, Y, localized=X_TRAIN)
    close(found, recipe(model)["localized"])
    found = summarize(model, ids, Y_TRAIN, X, Y, localized=X_TRAIN, estimate="pooled").total
    close(found, recipe(model)["pooled"].sum(1))


class Tokens(nn.Module):
    """A transformer for padded tokens, which returns what Hugging Face's do."""

    def __init__(self, masked: bool = True) -> None:
        super().__init__()
        self.embed, self.masked = nn.Embedding(20, 16), masked
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True)
        self.act, self.classifier = nn.ReLU(), nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        hidden = self.act(self.layer(self.embed(tokens), src_key_padding_mask=attention_mask == 0))
        # Padding counts where a batch is longer: batches must stay as they were.
        weight = attention_mask.unsqueeze(2) + 0.1
        return {"logits": self.classifier((hidden * weight).sum(1) / weight.sum(1)) * 3}


def token_batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    batches = []
    for length in (4, 9, 6):
        lengths = torch.randint(2, length + 1, (5, 1), generator=generator)
        lengths[0] = length
        tokens = torch.randint(20, (5, length), generator=generator)
        mask = (torch.arange(length) < lengths).long()
        labels = torch.randint(CLASSES, (5,), generator=generator)
        batches.append({"tokens": tokens * mask, "attention_mask": mask, "labels": labels})
    return batches


@pytest.mark.parametrize("after", ["head", ["act"], ["embed", "act"]])
def test_padded_tokens_keep_to_the_batches_they_came_in(after: str | list[str]) -> None:
    torch.manual_seed(0)
    model, ids, batches = insert(Tokens(), after=after).eval(), torch.arange(8), token_batches()
    with torch.no_grad():
        expected = torch.cat([_one_by_one(model, ids, batch) for batch in batches], 1)
    assert expected.std() > 0.01
    for memory in (1 << 30, 20_000):
        close(influence(model, ids, batches, memory=memory), expected)
    forward = lambda net, batch: net(batch["tokens"], batch["attention_mask"])["logits"]  # noqa: E731
    close(influence(model, ids, batches, forward=forward), expected)
    inputs = {name: batches[1][name] for name in ("tokens", "attention_mask")}
    close(influence(model, ids, inputs, batches[1]["labels"]), expected[:, 5:10])
    close(influence(model, ids, tuple(inputs.values()), batches[1]["labels"]), expected[:, 5:10])
    pooled = influence(model, batches, batches)
    assert pooled.shape == (15, 15) and pooled.isfinite().all() and pooled.std() > 0


def _one_by_one(model: nn.Module, ids: Tensor, batch: dict[str, Tensor]) -> Tensor:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, rows: Tensor) -> Tensor:
            return self.model(batch["tokens"][rows], batch["attention_mask"][rows])["logits"]  # type: ignore[no-any-return]

    return brute_force(Plain(), ids, torch.arange(len(batch["labels"])), batch["labels"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": IDS, "estimate": "pooled"}, 'estimate="pooled" compares training examples and targets, and ids'),
        ({"train": IDS, "estimate": "pooled", "localized": X_TRAIN}, "needs the labels of the training examples"),
        ({"estimate": "raw", "localized": X_TRAIN}, 'localized= is given, but estimate="raw"'),
        ({"estimate": "best"}, 'estimate=\'best\': use "raw", "localized", "pooled", "left-out" or "combined"'),
        ({"model": network("all"), "targets": read(network("all"), X, Y)}, "need the inputs of the targets"),
        ({"targets": read(network("head", seed=3), X, Y)}, "are of another network"),
        ({"train": [read(network("head"), X_TRAIN, Y_TRAIN)] * 2}, "1 networks but 2 readings"),
        ({"train": read(network("head"), X_TRAIN, Y_TRAIN, features=False)}, "no features of the training examples"),
        ({"targets": (X, Y + 1)}, "classes 0 to 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(change: dict[str, Any], message: str) -> None:
    given = {"model": network("head"), "train": (X_TRAIN, Y_TRAIN), "targets": (X, Y), **change}
    with pytest.raises(ValueError, match=message):
        influence(given.pop("model"), given.pop("train"), given.pop("targets"), **given)


def test_a_summary_of_ids_needs_their_labels() -> None:
    with pytest.raises(ValueError, match="pass the labels of the training examples after their ids"):
        summarize(network("head"), IDS, X, Y)
    with pytest.raises(TypeError, match="got 0 arguments after the training examples"):
        summarize(network("head"), IDS)
    first, other = network("head"), network("head", seed=1)
    readings = [read(first, X_TRAIN, Y_TRAIN), read(other, X_TRAIN.flip(0), Y_TRAIN.flip(0))]
    with pytest.raises(ValueError, match="network 2 has read other training examples than network 1"):
        influence([first, other], readings, X, Y)
