"""Networks in which masks do not hold are found by the first batch, and the first batch leaves no trace."""

from __future__ import annotations

import copy
import pickle
import random
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.unit.turnover.masking.networks import gradients, mlp, run
from turnover import TurnOverDropout, insert, remove, subnetwork
from turnover.masking.calling import call
from turnover.masking.layer import masked_layers, masking_hooks
from turnover.masking.probing import _state, head_by_data, probe

IDS = torch.arange(8)
X = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Modules by name, and a forward pass."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.way = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *args: Tensor) -> Any:
        return self.way(self, *args)


def body() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"body": nn.Linear(20, 32), "out": nn.Linear(32, 4)}


def low_rank(zero: bool) -> Net:
    net = Net(
        lambda n, x: n.out(n.body(x).relu()) + n.up(n.down(n.body(x).relu())),
        down=nn.Linear(32, 3, bias=False), up=nn.Linear(3, 4, bias=False), **body(),
    )  # fmt: skip
    net.out.requires_grad_(False)
    if zero:
        nn.init.zeros_(net.up.weight)
    return net


def two_heads() -> Net:
    return Net(lambda n, x: (n.out(h := n.body(x).relu()) + n.other(h)) / 2, **body(), other=nn.Linear(32, 4))


def wide_and_deep() -> Net:
    return Net(lambda n, x: n.out(n.body(x).relu()) + n.wide(x), **body(), wide=nn.Linear(20, 4))


def around() -> Net:
    inner = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
    return Net(lambda n, x: n.out((h := n.body(x).relu()) + n.inner(h)), **body(), inner=inner)


def head_registered_first() -> Net:
    return Net(
        lambda n, x: n.first(n.hidden(n.body(x).relu()).relu()),
        first=nn.Linear(16, 4), body=nn.Linear(20, 32), hidden=nn.Linear(32, 16),
    )  # fmt: skip


def auxiliary() -> Net:
    """An auxiliary head, registered last, that runs in training only."""
    return Net(
        lambda n, x: (n.out(h), n.aux(h)) if (h := n.body(x).relu()) is not None and n.training else n.out(h),
        **body(), aux=nn.Linear(32, 4),
    )  # fmt: skip


class OverTheBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.std(0) + 1e-5) if self.training else x


class TestWaysRound:
    @pytest.mark.parametrize(
        ("make", "after", "cure"),
        [
            (two_heads, "head", "after=['body']"),
            (lambda: low_rank(False), "head", "after=['body']"),
            (lambda: low_rank(True), "head", "after=['body']"),  # a way that opens with the first step
            (wide_and_deep, "head", "Give the network one module that all ways to the logits go through"),
        ],
    )
    @pytest.mark.parametrize("compiled", ["no", "wrapper", "in place", "beside"])
    def test_logits_past_the_mask_are_an_error_with_the_cure(
        self, make: Callable[[], Net], after: Any, cure: str, compiled: str
    ) -> None:
        model = insert(make(), after)
        network: Any = torch.compile(model, backend="eager") if compiled in ("wrapper", "beside") else model
        if compiled == "in place":
            model.compile(backend="eager")
        network(X)
        chosen = subnetwork(model if compiled == "beside" else network, IDS)
        with pytest.raises(ValueError, match=f"logits also come past the masks .*{re.escape(cure)}"), chosen:
            network(X)
        if "body" in cure:
            run(insert(remove(model), after=["body"]), X, IDS)
            assert all(layer.probed for layer in masked_layers(model))

    @pytest.mark.parametrize("compiled", [False, True])
    def test_a_choice_of_the_user_that_is_passed_is_a_warning_with_the_cure(self, compiled: bool) -> None:
        model = insert(around(), ["inner"])
        network: Any = torch.compile(model, backend="eager") if compiled else model
        with pytest.warns(UserWarning, match=r"scores are damped, because logits also come past .*after=\['body'\]"):
            run(network, X, IDS)
        assert all(layer.probed for layer in masked_layers(model))

    def test_the_probe_may_be_asked_for(self) -> None:
        model = insert(two_heads())
        wrapped = nn.DataParallel(model)
        for network, inputs in ((model, X), (model, (X,)), (wrapped, {"inputs": X})):
            forward = (lambda network, batch: network(batch["inputs"])) if isinstance(inputs, dict) else None
            with pytest.raises(ValueError, match="logits also come past"):
                probe(network, inputs, forward)

    def test_masks_in_residual_branches_are_a_warning(self) -> None:
        model = insert(around(), "all")
        with pytest.warns(
            UserWarning, match=r"scores are damped, because .* past the masks inserted at 'inner.1'.*body"
        ):
            run(model, X, IDS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(model, X, IDS)  # once is enough

    @pytest.mark.parametrize("make", [auxiliary, head_registered_first])
    @pytest.mark.parametrize("training", [False, True])
    def test_the_head_is_the_layer_that_gives_the_logits(self, make: Callable[[], Net], training: bool) -> None:
        model = make()
        linear = model.out if hasattr(model, "out") else model.first
        full = model.eval()(X)
        insert(model, keep=0.25).train(training)
        probe(model, X)
        ((_, hook),) = masking_hooks(model)
        assert hook in linear._forward_pre_hooks.values()
        mask = masked_layers(model)[0].masks(linear.in_features)(IDS)
        before: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda module, args: before.append(args[0]))
        run(model.eval(), X, IDS)
        handle.remove()
        assert torch.equal(before[-1] != 0, mask & (before[-1] != 0))
        assert torch.equal(remove(model)(X), full)
        assert sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()) == 0

    def test_masks_that_have_trained_or_were_widened_do_not_move(self) -> None:
        model = insert(head_registered_first())
        with subnetwork(model, IDS[:1]):  # a batch of one row tells nothing
            model(X[:1]).sum().backward()
        message = r"masks 'hidden', .* logits are those of 'first', .* 'hidden' {}\. .* after=\['hidden'\]"
        with pytest.raises(ValueError, match=message.format("has trained under its masks")):
            probe(copy.deepcopy(model), X)
        with pytest.raises(ValueError, match=r"'hidden.classify' was widened.*after=\['hidden'\]"):
            run(insert(head_registered_first(), width=64), X, IDS)

    def test_head_by_data(self) -> None:
        for model, name in ((head_registered_first(), "first"), (insert(auxiliary()), "out"), (mlp("head"), "4")):
            found = head_by_data(torch.compile(model, backend="eager"), X[:, :12] if name == "4" else X)
            assert found is not None
            assert found[0] == name
            assert found[1] is model.get_submodule(name)
        assert head_by_data(two_heads(), X) is None
        assert head_by_data(nn.Sequential(nn.Linear(20, 4), nn.LogSoftmax(1)), X) is None
        assert head_by_data(head_registered_first(), X[:1]) is None


def mark_as_probed(model: nn.Module) -> None:
    for layer in masked_layers(model):
        layer.probed.add(_state(model))


def low_rank_beside(linear: nn.Linear) -> Net:
    """LoRA, as one puts it around a layer."""
    torch.manual_seed(1)
    net = Net(
        lambda n, x: n.base(x) + n.up(n.down(x)),
        base=linear,
        down=nn.Linear(linear.in_features, 3, bias=False),
        up=nn.Linear(3, linear.out_features, bias=False),
    )
    nn.init.zeros_(net.up.weight)
    return net


class TestLater:
    """What opens after the first batch."""

    def test_a_module_put_in_later(self) -> None:
        model = insert(Net(_plain, **body()))
        run(model, X, IDS)
        model.out = low_rank_beside(model.out)
        with pytest.raises(ValueError, match="logits also come past the masks"):
            run(model, X, IDS)
        with pytest.raises(ValueError, match="logits also come past the masks"):
            run(torch.compile(model, backend="eager"), X, IDS)  # type: ignore[arg-type]

    @pytest.mark.parametrize("by", ["switch", "parameter"])
    def test_a_way_that_is_switched_on(self, by: str) -> None:
        def forward(net: Net, x: Tensor) -> Tensor:
            logits = _plain(net, x)
            return logits + net.wide(x) if getattr(net, by) else logits  # type: ignore[no-any-return]

        model = insert(Net(forward, **body(), wide=nn.Linear(20, 4)))
        model.register_parameter(by, None) if by == "parameter" else setattr(model, by, False)
        run(model, X, IDS)
        setattr(model, by, True if by == "switch" else nn.Parameter(torch.ones(())))
        with pytest.raises(ValueError, match="logits also come past the masks"):
            run(model, X, IDS)

    def test_a_frozen_branch(self) -> None:
        model = low_rank(True)
        model.up.requires_grad_(False)
        with pytest.raises(ValueError, match="logits also come past the masks"):
            run(insert(model), X, IDS)

    def test_mixing_that_is_thawed(self) -> None:
        model = insert(nn.Sequential(nn.Linear(20, 32), OverTheBatch(), nn.ReLU(), nn.Linear(32, 4)))
        model[1].eval()
        run(model, X, IDS)
        run(model.eval(), X, IDS)  # this way it was in training
        model.train()
        with pytest.raises(ValueError, match="examples are mixed inside of the batch.*module '1'"):
            run(model, X, IDS)

    @pytest.mark.parametrize("scale", [0.0, 1e-6, 1e-4])
    def test_a_way_that_is_nearly_closed(self, scale: float) -> None:
        model = Net(lambda n, x: n.out(n.body(x).relu()) + n.scale * n.wide(x), **body(), wide=nn.Linear(20, 4))
        model.scale = nn.Parameter(torch.full((4,), scale))
        with pytest.raises(ValueError, match="logits also come past the masks"):
            run(insert(model), X, IDS)

    def test_a_state_is_tried_once(self) -> None:
        model, calls = insert(Net(_plain, **body())), []
        run(model, X, IDS)
        run(model.eval(), X, IDS)
        model.register_forward_pre_hook(lambda *_: calls.append(1))
        for training in (True, False) * 2:
            run(model.train(training), X, IDS)
        assert len(calls) == 4


def arc_face() -> Net:
    net = Net(
        lambda n, x: 8 * F.linear(F.normalize(n.hidden(n.body(x).relu())), F.normalize(n.classes)),
        body=nn.Linear(20, 32), hidden=nn.Linear(32, 16),
    )  # fmt: skip
    net.classes = nn.Parameter(torch.randn(4, 16))
    return net


def convolution() -> Net:
    return Net(
        lambda n, x: n.classes(n.hidden(n.body(x).relu()).relu()[:, :, None, None]).flatten(1),
        body=nn.Linear(20, 32), hidden=nn.Linear(32, 16), classes=nn.Conv2d(16, 4, 1),
    )  # fmt: skip


class TestOtherHeads:
    @pytest.mark.parametrize("make", [arc_face, convolution])
    def test_a_head_that_is_no_linear_layer_is_an_error_with_the_cure(self, make: Callable[[], Net]) -> None:
        model = insert(make())
        message = r"masks the input of 'hidden', .*'classes.*' is trained behind it.*after=\['hidden'\]"
        with pytest.raises(ValueError, match=message):
            run(model, X, IDS)
        model = insert(remove(model), after=["hidden"])
        with subnetwork(model, IDS):
            checkpoint(model, X, use_reentrant=False).square().sum().backward()
        assert masked_layers(model)[0].probed

    @pytest.mark.parametrize(
        "tail",
        [
            lambda n, z: 3 * torch.tanh(z / 3),
            lambda n, z: 5 * z,
            lambda n, z: z.log_softmax(1),
            lambda n, z: n.scale * z + n.shift,
        ],
    )
    def test_tails_that_learn_nothing_are_fine(self, tail: Callable[[Net, Tensor], Tensor]) -> None:
        model = insert(Net(lambda n, x: tail(n, _plain(n, x)), **body()))
        model.scale, model.shift = nn.Parameter(torch.full((), 3.0)), nn.Parameter(torch.ones(4))
        with subnetwork(model, IDS):
            checkpoint(model, X, use_reentrant=False).square().sum().backward()
        assert masked_layers(model)[0].probed


class TestRows:
    @pytest.mark.parametrize("rows", [7, 8, 9, 24, 25])
    @pytest.mark.parametrize("steps", [8, 24])
    def test_masks_along_time_are_refused_also_where_there_are_as_many_steps_as_rows(
        self, rows: int, steps: int
    ) -> None:
        x = torch.randn(rows, steps, 20, generator=torch.Generator().manual_seed(0))
        time_first = insert(Net(lambda n, x: n.out(n.body(x).relu().transpose(0, 1)).mean(0), **body()))
        with pytest.raises(ValueError, match=r"dimension 0 of .* is not the batch.* before that layer"):
            run(time_first, x, range(rows))
        batch_first = insert(Net(lambda n, x: n.out(n.body(x).relu()).mean(1), **body()))
        run(batch_first, x, range(rows))
        assert masked_layers(batch_first)[0].probed

    def test_rows_of_the_user_s_making_may_have_ids_each(self) -> None:
        """Choices of a question are rows of their own at the mask."""
        model = insert(Net(lambda n, x: n.out(n.body(x.flatten(0, 1)).relu())[:, 0].view(len(x), -1), **body()))
        x = torch.randn(8, 3, 20)
        run(model, x, IDS.repeat_interleave(3))
        assert masked_layers(model)[0].probed


class TestMixedRows:
    @pytest.mark.parametrize("dense", [False, True])
    def test_a_graph_that_cannot_be_cut(self, dense: bool) -> None:
        """The whole batch is one graph, and edges name its nodes by their numbers."""
        nodes = torch.arange(40)
        edges = torch.stack([nodes, nodes.roll(20)])
        links = torch.eye(40).roll(20, 0) + torch.eye(40) if dense else edges

        def forward(net: Net, x: Tensor, links: Tensor) -> Tensor:
            h = net.body(x)
            return net.out((links @ h if dense else h.index_add(0, links[0], h[links[1]])).relu())  # type: ignore[no-any-return]

        model, x = insert(Net(forward, **body())), torch.randn(40, 20)
        message = "examples are mixed inside of the batch.*module 'out'"
        with pytest.raises(ValueError, match=message), torch.no_grad(), subnetwork(model, nodes):
            model(x, links)

    @pytest.mark.parametrize(
        ("make", "place"),
        [
            (
                lambda: nn.Sequential(nn.Linear(20, 32), OverTheBatch(), nn.ReLU(), nn.Linear(32, 4)),
                "module '1', a Over",
            ),
            (
                lambda: Net(lambda n, x: n.out(F.batch_norm(n.body(x), None, None, training=True).relu()), **body()),
                "module 'out', a Linear",
            ),
        ],
    )
    @pytest.mark.parametrize("training", [False, True])
    def test_what_mixes_is_named(self, make: Callable[[], nn.Module], place: str, training: bool) -> None:
        model = insert(make()).train(training)
        with pytest.raises(ValueError, match=f"examples are mixed inside of the batch.*{place}"):
            run(model, X, IDS)

    def test_noise_is_not_taken_for_mixing(self) -> None:
        own = np.random.default_rng(0)
        noise: dict[str, Callable[[Tensor], Tensor]] = {
            "torch": lambda h: F.dropout(h, 0.5) + torch.randn_like(h),
            "python": lambda h: h * random.random(),
            "numpy": lambda h: h * np.random.rand(),
            "its own": lambda h: h * own.random(),
        }
        for of in noise.values():
            model = insert(Net(lambda n, x, of=of: n.out(of(n.body(x)) if n.training else n.body(x)), **body()))
            run(model, X, IDS)
            assert masked_layers(model)[0].probed


class Packed(nn.Module):
    def __init__(self, lstm: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        kind = nn.LSTM if lstm else nn.GRU
        self.rnn, self.out = kind(20, 16, 2, dropout=0.5, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        last = self.rnn(packed)[1]
        return self.out((last[0] if isinstance(last, tuple) else last)[-1])  # type: ignore[no-any-return]


def _ragged(act: Callable[[Net, Tensor], Tensor], mixes: bool = False, **modules: nn.Module) -> Net:
    """An activation of what is not negative, of which rows have more or less; the last row comes first."""

    def forward(net: Net, x: Tensor) -> Tensor:
        if net.training and mixes:
            x = 0.5 * x + 0.5 * x[torch.randperm(len(x))]
        h = net.body(x).flip(0)
        h = torch.zeros_like(h).masked_scatter(h > 0, act(net, h[h > 0]))
        return net.out(h.flip(0))  # type: ignore[no-any-return]

    return Net(forward, **body(), **modules)


class TestRandomNumbersThatShift:
    """How many are drawn for a row hangs on the other rows, which is no mixing."""

    @pytest.mark.parametrize("lstm", [False, True])
    def test_packed_sequences(self, lstm: bool) -> None:
        model, lengths = insert(Packed(lstm)), torch.tensor([9, 3, 5, 1, 7, 2, 8, 4])
        with torch.no_grad(), subnetwork(model, IDS):
            model(torch.randn(8, 9, 20), lengths)
        assert masked_layers(model)[0].probed
        assert model.rnn.dropout == 0.5

    def test_dropout_of_what_a_mask_selects(self) -> None:
        for model in (
            _ragged(lambda n, h: n.drop(h), drop=nn.Dropout(0.5)),
            _ragged(lambda n, h: n.drop(h), drop=nn.RReLU(-1.0, 1.0)),
            _ragged(lambda n, h: F.dropout(h, 0.5, n.training)),
        ):
            run(insert(model), X, IDS)
            assert masked_layers(model)[0].probed
            assert all(module.training for module in model.modules())

    def test_examples_that_are_mixed_at_random_are_still_refused(self) -> None:
        for model in (
            _ragged(lambda n, h: h, mixes=True),
            _ragged(lambda n, h: n.drop(h), mixes=True, drop=nn.Dropout(0.5)),
        ):
            with pytest.raises(ValueError, match="examples are mixed inside of the batch"):
                run(insert(model), X, IDS)


class TestCalls:
    def test_a_head_that_is_called_by_keyword(self) -> None:
        named = insert(Net(lambda n, x: n.out(input=n.body(x).relu()), **body()))
        plain = insert(Net(_plain, **body()))
        assert torch.equal(run(named, X, IDS), run(plain, X, IDS))
        hidden = Net(lambda n, x: n.first(input=n.hidden(n.body(x).relu())), **{"first": nn.Linear(16, 4), **body()})
        hidden.hidden, hidden.out = nn.Linear(32, 16), nn.Identity()
        run(insert(hidden), X, IDS)
        assert not any(m._forward_pre_hooks_with_kwargs for m in remove(hidden).modules())

    def test_inside_of_compiled_code(self) -> None:
        model = insert(Net(_plain, **body()))
        step: Any = torch.compile(lambda x: run(model, x, IDS), backend="eager")
        with pytest.raises(ValueError, match="stands inside of a function that torch.compile compiles"):
            step(X)

    def test_several_rows_an_example(self) -> None:
        model = insert(Net(lambda n, x: n.out(n.body(x.flatten(0, 1)).relu())[:, 0].view(len(x), -1), **body()))
        with pytest.raises(ValueError, match="given 8 ids, .* 24 rows: if the network makes 3 rows of an example"):
            run(model, torch.randn(8, 3, 20), IDS)

    def test_names_that_the_network_does_not_take(self) -> None:
        model = nn.Linear(20, 4)
        assert torch.equal(call(model, {"input": X}), model(X))
        for network in (model, torch.compile(model, backend="eager")):
            with pytest.raises(ValueError, match="the forward of Linear takes no 'idx', which the batches hold: leave"):
                call(network, {"input": X, "idx": IDS})


class TestNoTrace:
    def stateful(self) -> Net:
        """Everything that a forward pass may change."""

        def forward(net: Net, x: Tensor) -> Tensor:
            net.calls += 1
            net.last = net.body(x).detach()
            net.held += 1.0
            net.mean.add_(x.mean())
            net.swapped = net.swapped * 2.0
            net.seen.append(len(x))
            net.kinds["rows"] += 1
            net.nested["norms"].append(x.norm())
            net.nested["sum"][0] += x.sum()
            net.recent.append(len(x))
            return net.out(F.dropout(net.norm(net.body(x).relu()), training=net.training))  # type: ignore[no-any-return]

        torch.manual_seed(0)
        net = Net(forward, norm=nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32)), **body())
        net.calls, net.held = 0, torch.zeros(())
        net.seen, net.kinds, net.recent = [], Counter[str](), deque([1, 2], maxlen=2)
        net.nested = {"norms": [], "sum": [torch.zeros(())]}
        net.register_buffer("mean", torch.zeros(()))
        net.register_buffer("swapped", torch.ones(()))
        return net

    def test_the_first_step_is_as_if_nothing_had_been_asked(self) -> None:
        found = []
        for asked in (True, False):
            model = insert(self.stateful())
            model.body.eval()
            if not asked:
                mark_as_probed(model)
            torch.manual_seed(3)
            random.seed(3)
            np.random.seed(3)
            held = model.held
            with subnetwork(model, IDS):
                model(X).square().sum().backward()
            assert masked_layers(model)[0].probed
            assert model.held is held
            assert not model.body.training
            assert model.training
            drawn = (torch.rand(2), torch.tensor(random.random()), torch.tensor(np.random.rand()))
            assert (model.seen, model.kinds, list(model.recent)) == ([8], {"rows": 1}, [2, 8])
            extra = (torch.tensor(model.calls), model.last, model.held.clone())
            extra += (*model.nested["norms"], *model.nested["sum"])
            found.append([*gradients(model), *model.state_dict().values(), *drawn, *extra])
            assert not any(m._forward_hooks for m in model.modules())
            assert sum(len(m._forward_pre_hooks) for m in model.modules()) == 1
        assert model.calls == 1
        assert model.nested["norms"] == [X.norm()]
        for one, other in zip(*found, strict=True):
            assert torch.equal(one, other)

    def test_gradients_under_autocast(self) -> None:
        """Casts that autocast keeps must not come from passes without gradients."""
        found = []
        for asked in (True, False):
            model = insert(Net(lambda n, x: n.out(n.body(x).relu()), **body()))
            if not asked:
                mark_as_probed(model)
            with torch.autocast("cpu", torch.bfloat16), subnetwork(model, IDS):
                loss = model(X).float().square().sum()
            loss.backward()
            found.append(gradients(model))
        torch.testing.assert_close(*found, rtol=0, atol=0)

    def test_activation_checkpointing(self) -> None:
        model = insert(
            Net(lambda n, x: n.out(checkpoint(lambda x: n.body(x).relu(), x, use_reentrant=False)), **body())
        )
        with subnetwork(model, IDS):
            checkpoint(model, X, use_reentrant=False).square().sum().backward()
        assert masked_layers(model)[0].probed

    def test_what_cannot_be_understood_runs_as_before(self) -> None:
        tokens = Net(lambda n, x: n.out(n.body(x).relu())[:, None].expand(-1, 3, -1), **body())
        no_logits = Net(lambda n, x: {"prediction": n.out(n.body(x).relu())}, **body())
        constant = Net(lambda n, x: n.out(torch.ones_like(n.body(x))), **body())
        many = torch.cat([X, X, X])
        for model, inputs in ((tokens, (many,)), (no_logits, (many,)), (constant, (many,))):
            calls = []
            insert(model).register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
            with torch.no_grad():
                for _ in range(10):
                    with subnetwork(model, range(24)):
                        model(*inputs)
            assert not masked_layers(model)[0].probed
            assert 10 < len(calls) < 80  # it is asked a few times, and not for ever

    def test_what_cannot_be_cut_is_tried_whole(self) -> None:
        model = insert(Net(lambda n, x, names: n.out(n.body(x).relu() * torch.ones(len(names), 1)), **body()))
        with torch.no_grad(), subnetwork(model, range(24)):
            model(torch.cat([X, X, X]), ["a"] * 24)
        assert masked_layers(model)[0].probed

    def test_copies_keep_the_answer_and_insert_asks_again(self) -> None:
        model = insert(Net(_plain, **body()))
        with subnetwork(model, IDS):
            pickle.loads(pickle.dumps(model))  # while it is being asked
            inside = copy.deepcopy(model)
            model(X)
        assert masked_layers(model)[0].probed
        assert masked_layers(copy.deepcopy(model))[0].probed
        assert masked_layers(pickle.loads(pickle.dumps(model)))[0].probed
        assert not masked_layers(insert(remove(model)))[0].probed
        assert sum(len(m._forward_pre_hooks) for m in remove(inside).modules()) == 0

    def test_masks_written_by_hand(self) -> None:
        model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), TurnOverDropout(), nn.Linear(32, 4))
        run(model, X, IDS)
        assert masked_layers(model)[0].probed


def _plain(net: Net, x: Tensor) -> Tensor:
    return net.out(net.body(x).relu())  # type: ignore[no-any-return]


def test_insert_after_a_compiled_run() -> None:
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))
    compiled: Any = torch.compile(model, backend="eager")
    full = compiled(X)
    insert(model)
    assert torch.equal(run(compiled, X, IDS), run(model, X, IDS))
    assert not torch.allclose(run(compiled, X, IDS), full)
    remove(model)
    assert torch.equal(compiled(X), full)
