"""`insert` and `subnetwork` under everything that a user's own loop may do to a network."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from turnover import TurnOverDropout, insert, remove, replace_batch_norm, subnetwork
from turnover.masking.insertion import WidenedHead
from turnover.masking.layer import masked_layers
from turnover.masking.placement import head


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)


def mlp(after: str | list[str] = "all", keep: float = 0.5, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 4))
    return insert(layers, after=after, keep=keep, seed=seed)


def batch(rows: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 12, generator=generator), torch.randint(0, 4, (rows,), generator=generator)


def run(model: nn.Module, x: Tensor, ids: Tensor | None, flipped: bool = False) -> Tensor:
    with torch.no_grad():
        if ids is None:
            return model(x)  # type: ignore[no-any-return]
        with subnetwork(model, ids, flipped=flipped):
            return model(x)  # type: ignore[no-any-return]


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    assert all(gradient is not None for gradient in found)
    return found  # type: ignore[return-value]


IDS = torch.arange(6) * 7


class TestSubnetwork:
    @pytest.mark.parametrize("keep", [0.25, 0.5, 0.9])
    def test_exposed_and_flipped_average_to_the_full_network_behind_one_mask(self, keep: float) -> None:
        model, (x, _) = mlp("head", keep), batch()
        model.double()
        x = x.double()
        exposed, flipped = run(model, x, IDS), run(model, x, IDS, flipped=True)
        assert not torch.allclose(exposed, flipped)
        torch.testing.assert_close(keep * exposed + (1 - keep) * flipped, run(model, x, None))

    def test_rows_do_not_depend_on_the_rest_of_the_batch(self) -> None:
        model, (x, _) = mlp(), batch()
        whole = run(model, x, IDS)
        order = torch.tensor([3, 0, 5])
        torch.testing.assert_close(run(model, x[order], IDS[order]), whole[order])

    def test_ids_may_be_a_list_or_of_another_integer_type(self) -> None:
        model, (x, _) = mlp(), batch()
        for ids in (IDS.tolist(), IDS.int(), IDS.numpy()):
            assert torch.equal(run(model, x, ids), run(model, x, IDS))

    def test_nesting_restores_the_outer_sub_network(self) -> None:
        model, (x, _) = mlp(), batch()
        expected = [run(model, x, None), run(model, x, IDS), run(model, x, IDS + 1, True)]
        with torch.no_grad():
            with subnetwork(model, IDS):
                assert torch.equal(model(x), expected[1])
                with subnetwork(model, IDS + 1, flipped=True):
                    assert torch.equal(model(x), expected[2])
                    with subnetwork(model, IDS):  # re-entered
                        assert torch.equal(model(x), expected[1])
                    assert torch.equal(model(x), expected[2])
                assert torch.equal(model(x), expected[1])
            assert torch.equal(model(x), expected[0])

    def test_two_models_in_one_context_keep_to_themselves(self) -> None:
        one, other, (x, _) = mlp(seed=1), mlp(seed=2), batch()
        with subnetwork(one, IDS), subnetwork(other, IDS + 9), torch.no_grad():
            found = one(x), other(x)
        assert torch.equal(found[0], run(one, x, IDS))
        assert torch.equal(found[1], run(other, x, IDS + 9))

    def test_an_exception_ends_the_context(self) -> None:
        model, (x, _) = mlp(), batch()
        full = run(model, x, None)
        with pytest.raises(KeyError), subnetwork(model, IDS):
            raise KeyError
        assert torch.equal(run(model, x, None), full)
        assert [layer._open for layer in masked_layers(model)] == [0, 0]

    def test_threads_have_their_own(self) -> None:
        # Not to the bit: a new thread may compute with another number of OpenMP threads.
        model, (x, _) = mlp(), batch()
        choices = [(IDS + n, bool(n % 2)) for n in range(4)]
        expected = [run(model, x, ids, flipped) for ids, flipped in choices]
        full = run(model, x, None)
        barrier, wrong = threading.Barrier(5), []

        def work(number: int) -> None:
            ids, flipped = choices[number]
            barrier.wait()
            for _ in range(50):
                if not torch.allclose(run(model, x, ids, flipped), expected[number], atol=1e-5):
                    wrong.append(number)

        def outside() -> None:
            barrier.wait()
            wrong.extend(-1 for _ in range(50) if not torch.allclose(run(model, x, None), full, atol=1e-5))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)] + [threading.Thread(target=outside)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_asyncio_tasks_have_their_own(self) -> None:
        model, (x, _) = mlp(), batch()

        async def task(ids: Tensor) -> Tensor:
            with subnetwork(model, ids):
                await asyncio.sleep(0)  # the other task enters its own context here
                return model(x).detach()  # type: ignore[no-any-return]

        async def both() -> list[Tensor]:
            return list(await asyncio.gather(task(IDS), task(IDS + 1)))

        found = asyncio.run(both())
        assert torch.equal(found[0], run(model, x, IDS))
        assert torch.equal(found[1], run(model, x, IDS + 1))

    @pytest.mark.parametrize("rows", [1, 5, 7])
    def test_a_wrong_number_of_ids_gives_both_sizes(self, rows: int) -> None:
        model, (x, _) = mlp(), batch()
        message = f"given {rows} ids, but the batch that reached a masked layer has 6 rows"
        with subnetwork(model, torch.arange(rows)), pytest.raises(ValueError, match=message):
            model(x)

    def test_mistakes(self) -> None:
        model, (x, _) = mlp(), batch()
        with pytest.raises(TypeError, match="must be an integer tensor, got torch.float32"), subnetwork(model, x[0]):
            pass
        with pytest.raises(ValueError, match="one id a row"), subnetwork(model, torch.zeros(2, 3, dtype=torch.int64)):
            pass
        with pytest.raises(ValueError, match=r"no turn-over dropout: call insert"), subnetwork(nn.Linear(2, 2), IDS):
            pass
        layer = TurnOverDropout()
        with subnetwork(layer, IDS), pytest.raises(ValueError, match=r"got shape \(6,\): it needs \[batch"):
            layer(x[:, 0])

    def test_the_global_random_number_generator_is_left_alone(self) -> None:
        before = torch.get_rng_state()
        model, (x, _) = mlp(), batch()
        run(model, x, IDS)
        remove(model)
        insert(model, width=64)
        run(model, x, IDS)
        assert torch.equal(torch.get_rng_state(), before)


class TestCopies:
    @pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_a_copy_has_the_same_masks_but_not_the_same_selection(self, clone: object) -> None:
        model, (x, _) = mlp(), batch()
        run(model, x, IDS)  # fills the remembered masks, which are not copied
        other = clone(model)  # type: ignore[operator]
        assert torch.equal(run(other, x, IDS), run(model, x, IDS))
        assert len(pickle.dumps(other)) < 40_000
        full = run(model, x, None)
        with subnetwork(model, IDS), torch.no_grad():
            inside = clone(model)  # type: ignore[operator]
            assert torch.equal(other(x), full)
            assert torch.equal(inside(x), full)
        with subnetwork(other, IDS), torch.no_grad():
            assert torch.equal(model(x), full)

    def test_state_dict_goes_to_and_fro(self) -> None:
        plain, model = remove(mlp()), mlp()
        assert list(plain.state_dict()) == list(model.state_dict())
        plain.load_state_dict(model.state_dict(), strict=True)
        model.load_state_dict(plain.state_dict(), strict=True)


class TestReplicas:
    def test_a_replica_has_the_sub_network_of_the_thread_it_runs_in(self) -> None:
        """What DataParallel does, when `subnetwork` is entered inside of the module that it wraps."""

        class Wrapped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network = mlp()

            def forward(self, x: Tensor, ids: Tensor) -> Tensor:
                with subnetwork(self.network, ids):
                    return self.network(x)  # type: ignore[no-any-return]

        model, (x, _) = Wrapped(), batch()
        expected = model(x, IDS).detach()
        found: dict[int, Tensor] = {}

        def work(number: int) -> None:
            rows = slice(3 * number, 3 * number + 3)
            with torch.no_grad():
                found[number] = replicate(model)(x[rows], IDS[rows])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.testing.assert_close(torch.cat([found[0], found[1]]), expected)

    def test_a_selection_that_does_not_reach_the_replica_is_an_error(self) -> None:
        model, (x, _) = mlp(), batch()
        errors: list[BaseException] = []

        def work(replica: nn.Module) -> None:
            try:
                replica(x)
            except RuntimeError as error:
                errors.append(error)

        def in_a_thread() -> None:
            thread = threading.Thread(target=work, args=(replicate(model),))
            thread.start()
            thread.join()

        with subnetwork(model, IDS):
            in_a_thread()
        assert "enter `subnetwork` inside of the forward" in str(errors.pop())
        in_a_thread()  # the full network, which is what was asked for
        assert not errors


def replicate(model: nn.Module) -> nn.Module:
    """A copy of `model` as `torch.nn.parallel.replicate` makes it, on the CPU."""
    replica = model._replicate_for_data_parallel()  # type: ignore[operator]
    for key, parameter in model._parameters.items():
        setattr(replica, key, None if parameter is None else parameter.view_as(parameter))
    for key, child in model._modules.items():
        replica._modules[key] = None if child is None else replicate(child)
    return replica  # type: ignore[no-any-return]


class TestAutocast:
    def test_bfloat16_is_close_to_float32(self) -> None:
        model, (x, _) = mlp(), batch()
        with torch.autocast("cpu", torch.bfloat16):
            found = run(model, x, IDS)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), run(model, x, IDS), rtol=0.05, atol=0.05)
        assert (found.float() - run(model, x, IDS, True)).abs().max() > 0.2

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_the_type_of_the_activations_stays(self, dtype: torch.dtype) -> None:
        layer = TurnOverDropout(keep=0.9)
        with subnetwork(layer, IDS):
            found = layer(torch.ones(6, 10, dtype=dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found[found != 0], torch.full((54,), 1 / 0.9, dtype=dtype))


class TestCompile:
    def test_one_graph_for_all_ids(self) -> None:
        model, (x, _) = mlp(), batch()
        graphs = 0

        def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
            nonlocal graphs
            graphs += 1
            return graph.forward

        torch.compiler.reset()
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        for ids in (IDS, IDS + 1, IDS):
            for flipped in (False, True):
                assert torch.equal(run(compiled, x, ids, flipped), run(model, x, ids, flipped))
            assert torch.equal(run(compiled, x, None), run(model, x, None))
        with pytest.raises(ValueError, match="given 2 ids"):
            run(compiled, x, IDS[:2])
        assert graphs == 1

    def test_training_through_the_default_backend(self) -> None:
        model, (x, y) = mlp(), batch()
        torch.compiler.reset()
        compiled = torch.compile(model, fullgraph=True)
        for ids in (IDS, IDS + 1):
            found = []
            for network in (model, compiled):
                with subnetwork(network, ids):
                    loss = F.cross_entropy(network(x), y)
                loss.backward()
                found.append([loss.detach(), *gradients(model)])
            torch.testing.assert_close(found[0], found[1])
            units = masked_layers(model)[0].masks(32)(ids).any(0)
            for result in found:
                assert (result[1][~units] == 0).all()


class TestCheckpointing:
    """Activation checkpointing re-runs the forward pass during backward."""

    @pytest.mark.parametrize("flipped", [False, True])
    def test_backward_inside_agrees(self, flipped: bool) -> None:
        model, (x, y) = mlp(), batch()
        found = []
        for call in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
            with subnetwork(model, IDS, flipped=flipped):
                F.cross_entropy(call(x), y).backward()
            found.append(gradients(model))
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)

    def test_backward_inside_of_another_context_for_the_same_ids_agrees(self) -> None:
        model, (x, y) = mlp(), batch()
        with subnetwork(model, IDS):
            F.cross_entropy(model(x), y).backward()
            expected = gradients(model)
            loss = F.cross_entropy(checkpoint(model, x, use_reentrant=False), y)
        with subnetwork(model, IDS.clone()):
            loss.backward()
        torch.testing.assert_close(gradients(model), expected, rtol=0, atol=0)

    @pytest.mark.parametrize("frozen", [False, True])
    @pytest.mark.parametrize("backward", ["outside", "other ids", "flipped"])
    def test_backward_elsewhere_is_an_error(self, backward: str, frozen: bool) -> None:
        model, (x, y) = mlp(["0", "3"] if frozen else "all"), batch()
        if frozen:
            model[0].requires_grad_(False)  # the first mask then has no gradient to pass on
        with subnetwork(model, IDS):
            loss = F.cross_entropy(checkpoint(model, x, use_reentrant=False), y)
        with pytest.raises(RuntimeError, match=r"call backward\(\) inside the same `with subnetwork"):
            if backward == "outside":
                loss.backward()
            with subnetwork(model, IDS + (backward == "other ids"), flipped=backward == "flipped"):
                loss.backward()

    def test_backward_elsewhere_is_an_error_for_tokens_too(self) -> None:
        model, x = mlp(), torch.randn(6, 5, 12)
        with subnetwork(model, IDS):
            loss = checkpoint(model, x, use_reentrant=False).square().sum()
        with pytest.raises(RuntimeError, match=r"call backward\(\) inside the same `with subnetwork"):
            loss.backward()

    def test_the_full_network_may_be_checkpointed(self) -> None:
        model, (x, y) = mlp(), batch()
        found = []
        for call in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
            F.cross_entropy(call(x), y).backward()
            found.append(gradients(model))
        torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
        loss = F.cross_entropy(checkpoint(model, x, use_reentrant=False), y)
        with subnetwork(model, IDS), pytest.raises(RuntimeError, match="re-ran the forward pass under another"):
            loss.backward()

    @pytest.mark.parametrize("inside", [False, True])
    def test_reentrant_checkpointing_is_refused(self, inside: bool) -> None:
        model, (x, y) = mlp(), batch()
        x.requires_grad_()
        F.cross_entropy(checkpoint(model, x, use_reentrant=True), y).backward()  # the full network: no matter
        with subnetwork(model, IDS):
            loss = F.cross_entropy(checkpoint(model, x, use_reentrant=True), y)
            if inside:
                with pytest.raises(RuntimeError, match="pass use_reentrant=False"):
                    loss.backward()
        if not inside:
            with pytest.raises(RuntimeError, match="pass use_reentrant=False"):
                loss.backward()

    def test_compiled_code_that_re_runs_outside_is_an_error(self) -> None:
        model, (x, y) = mlp(), batch()
        torch.compiler.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        with subnetwork(model, IDS):
            loss = F.cross_entropy(checkpoint(compiled, x, use_reentrant=False), y)
        with pytest.raises(RuntimeError, match="re-ran the forward pass"):
            loss.backward()

    def test_threads_of_the_autograd_engine_find_the_selection(self) -> None:
        """GPUs run backward in threads of the engine. So does a CPU, for backward passes nested 60 deep."""
        script = textwrap.dedent("""
            import os, threading, torch
            from turnover import TurnOverDropout, subnetwork
            from turnover.masking.layer import _current
            layer, main, seen = TurnOverDropout(), threading.get_ident(), []
            class Nested(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x, depth):
                    ctx.depth = depth
                    return x.clone()
                @staticmethod
                def backward(ctx, grad):
                    if threading.get_ident() != main:
                        seen.append(_current(layer._number))
                    if ctx.depth:
                        with torch.enable_grad():
                            Nested.apply(torch.ones((), requires_grad=True), ctx.depth - 1).backward()
                    return grad, None
            with subnetwork(layer, [41]):
                Nested.apply(torch.ones((), requires_grad=True), 70).backward()
            inside = list(seen)
            seen.clear()
            Nested.apply(torch.ones((), requires_grad=True), 70).backward()
            print(len(inside) > 0, {s.ids.item() for s in inside}, len(seen) > 0, set(seen), flush=True)
            os._exit(0)  # the engine's threads do not end by themselves
        """)
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
        assert found.stdout.strip() == "True {41} True {None}"

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
    def test_backward_inside_agrees_on_the_gpu(self) -> None:
        model, (x, y) = mlp().cuda(), batch()
        found = []
        for call in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
            with subnetwork(model, IDS):
                F.cross_entropy(call(x.cuda()), y.cuda()).backward()
            found.append(gradients(model))
        torch.testing.assert_close(found[0], found[1])


class TestInsert:
    def test_batch_norm_is_refused_and_the_cure_works(self) -> None:
        def network() -> nn.Sequential:
            shared = nn.BatchNorm2d(6)
            return nn.Sequential(
                nn.Conv2d(1, 6, 3), shared, nn.ReLU(), nn.Conv2d(6, 6, 3), shared, nn.Flatten(), nn.LazyLinear(8),
                nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3),
            )  # fmt: skip

        model, x = network(), torch.randn(4, 1, 8, 8)
        model.eval()(x)
        with pytest.raises(ValueError, match=r"found: 1, 7\. Cure: insert\(replace_batch_norm\(model\), ") as error:
            insert(model)
        assert "mixes the examples of a batch" in str(error.value)
        weight = model[1].weight
        model = insert(replace_batch_norm(model, groups=4), "all")
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        assert model[1] is model[4]
        assert model[1].num_groups == 3  # the largest divisor of 6 up to 4
        assert model[1].weight is weight
        assert model[7].weight is None
        assert not model[1].training
        # The cure is one: no example shows in the sub-network of another.
        model.train()
        together = run(model, x, torch.arange(4))
        torch.testing.assert_close(run(model, x[:1], torch.arange(1)), together[:1])
        assert isinstance(replace_batch_norm(nn.BatchNorm1d(4)), nn.GroupNorm)
        with pytest.raises(ValueError, match="run one batch through the model first"):
            replace_batch_norm(nn.LazyBatchNorm2d())

    def test_many_batch_norms_are_counted(self) -> None:
        with pytest.raises(ValueError, match=r"found: 0, 1, 2, 3, 4 and 3 more\."):
            insert(nn.Sequential(*[nn.BatchNorm1d(4) for _ in range(8)], nn.Linear(4, 2)))
        with pytest.raises(ValueError, match=r"found: \(the model itself\)"):
            insert(nn.BatchNorm1d(4))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"after": ["9"]}, "after names no module of the model: '9'; there are 0, 1, 2, 3, 4"),
            ({"after": [""]}, "after names no module of the model: ''"),
            ({"after": []}, r"after=\[\] masks nothing: name at least one module"),
            ({"after": "1"}, """after='1': use "head", "all" or a list of module names"""),
            ({"keep": 0.0}, "keep=0.0: the kept fraction must lie strictly between 0 and 1"),
            ({"keep": 1.5}, "keep=1.5: the kept fraction must lie strictly between 0 and 1"),
            ({"width": 8, "after": "all"}, "it goes with after=\"head\", not after='all'"),
            ({"width": 1}, "units=1: a masked layer needs at least 2 units"),
        ],
    )
    def test_mistakes_change_nothing(self, arguments: dict[str, object], message: str) -> None:
        model = remove(mlp())
        with pytest.raises(ValueError, match=message):
            insert(model, **arguments)  # type: ignore[arg-type]
        assert masked_layers(model) == []
        assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.Tanh, nn.Linear]

    def test_once_is_enough(self) -> None:
        model = mlp()
        with pytest.raises(ValueError, match=r"has turn-over dropout already: call remove\(model\) first"):
            insert(model)
        insert(remove(model))

    def test_nothing_to_mask(self) -> None:
        with pytest.raises(ValueError, match="no activation modules .* out of 0, 1"):
            insert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "all")
        with pytest.raises(ValueError, match="no head to mask"):
            insert(nn.Sequential(nn.Conv2d(1, 2, 3)))
        with pytest.raises(ValueError, match="wrap it in torch.nn.Sequential"):
            insert(nn.Linear(4, 2), width=8)

    def test_widened_head(self) -> None:
        model, (x, _) = remove(mlp()), batch()
        model[4].requires_grad_(False)
        original, weights, old = run(model, x, None), copy.deepcopy(model.state_dict()), model[4]
        insert(model, width=64, seed=5)
        assert isinstance(model[4], WidenedHead)
        assert head(model).in_features == 64
        assert not torch.equal(run(model, x, IDS), run(model, x, IDS, True))
        hidden = model[4].activation(model[4].expand(model[:4](x)))
        mask = masked_layers(model)[0].masks(64)(IDS)
        torch.testing.assert_close(run(model, x, IDS), model[4].classify(hidden * mask * 2))
        model.double()
        remove(model)
        assert model[4] is old
        assert model[4].weight.dtype == torch.float64  # it went along
        model.float()
        assert torch.equal(run(model, x, None), original)
        for key, value in model.state_dict().items():
            assert torch.equal(value, weights[key])

    def test_remove_leaves_other_hooks_alone(self) -> None:
        model, calls = remove(mlp()), []
        model[1].register_forward_hook(lambda *args: calls.append(1))
        remove(insert(model, "all"))(batch()[0])
        assert calls == [1]
        assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 1

    def test_sequences_of_any_rank(self) -> None:
        """Channels of 1-, 2- and 3-dimensional convolutions; features of tokens, once they are tokens."""
        for rank, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), start=1):
            model = insert(nn.Sequential(kind(2, 10, 3, padding=1), nn.ReLU(), nn.Flatten(2)), after=["1", "2"])
            x = torch.randn(3, 2, *[4] * rank)
            model[0].bias.data.fill_(100.0)  # nothing but a mask gives a zero
            kept = (run(model, x, IDS[:3]) != 0).flatten(2)
            first, second = (layer.masks(10)(IDS[:3]) for layer in masked_layers(model))
            assert torch.equal(kept, (first & second).unsqueeze(-1).expand_as(kept))

    def test_transformer_layers(self) -> None:
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=nn.GELU(), batch_first=True)
        model = insert(nn.Sequential(layer, nn.Flatten(), nn.Linear(40, 3)), "all").eval()
        x = torch.randn(3, 5, 8)
        assert not torch.equal(run(model, x, IDS[:3]), run(model, x, None))  # no fused path around the mask
        torch.testing.assert_close(run(model, x[1:2], IDS[1:2]), run(model, x, IDS[:3])[1:2])
        sideways = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False)
        with pytest.raises(ValueError, match="'layers.0.linear1' belongs to 'layers.0', .* in dimension 1: build it"):
            insert(sideways, ["layers.0.linear1"])

    def test_recurrent_layers(self) -> None:
        class Recurrent(nn.Module):
            def __init__(self, batch_first: bool) -> None:
                super().__init__()
                self.cell = nn.LSTM(4, 8, batch_first=batch_first)
                self.both = nn.ModuleDict({"inner": nn.Identity()})
                self.classify = nn.Linear(8, 3)

            def forward(self, x: Tensor) -> Tensor:
                hidden = self.both["inner"](self.cell(x))
                return self.classify(hidden[0][:, -1])  # type: ignore[no-any-return]

        model, x = Recurrent(True), torch.randn(3, 5, 4)
        assert not torch.equal(run(insert(model), x, IDS[:3]), run(model, x, None))
        with pytest.raises(ValueError, match=r"'cell' \(LSTM\) gives a tuple, not one tensor: name a module after it"):
            insert(remove(model), ["cell"])
        with pytest.raises(ValueError, match="build it with batch_first=True"):
            insert(Recurrent(False), ["cell"])
        insert(model, ["both.inner"])
        with pytest.raises(TypeError, match="output of module 'both.inner' is of type tuple, not one tensor"):
            model(x)

    def test_a_head_called_by_keyword_is_an_error(self) -> None:
        class ByKeyword(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.classify = nn.Linear(12, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.classify(input=x)  # type: ignore[no-any-return]

        with pytest.raises(TypeError, match="first positional input of module 'classify' is of type NoneType"):
            insert(ByKeyword())(batch()[0])

    def test_written_by_hand(self) -> None:
        model = nn.Sequential(nn.Linear(12, 10), TurnOverDropout(0.3, layer=4), nn.Linear(10, 2))
        assert [layer.layer for layer in masked_layers(model)] == [4]
        x, _ = batch()
        hidden = model[0](x) * masked_layers(model)[0].masks(10)(IDS) / 0.3
        torch.testing.assert_close(run(model, x, IDS), model[2](hidden))
        assert "keep=0.3, seed=0, layer=4" in repr(model)


def test_a_step_on_one_example_leaves_what_its_mask_hides() -> None:
    """Plain SGD through the whole network, one example at a time."""
    model, (x, y) = mlp(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for row in range(6):
        before = copy.deepcopy(model.state_dict())
        example = IDS[row : row + 1]
        with subnetwork(model, example):
            loss = F.cross_entropy(model(x[row : row + 1]), y[row : row + 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        layers = zip(masked_layers(model), (32, 24), strict=True)
        first, second = (layer.masks(units)(example)[0] for layer, units in layers)
        same = {key: before[key] == value for key, value in model.state_dict().items()}
        assert same["0.weight"][~first].all()
        assert same["0.bias"][~first].all()
        assert same["2.weight"][~second].all()
        assert same["2.weight"][:, ~first].all()
        assert same["4.weight"][:, ~second].all()
        assert not same["2.weight"][second][:, first].all()
        assert not same["4.weight"][:, second].all()


def test_a_copied_context_carries_the_selection() -> None:
    """How to hand a sub-network to a thread of one's own."""
    model, (x, _) = mlp(), batch()
    found: list[Tensor] = []
    with subnetwork(model, IDS):
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: context.run(lambda: found.append(model(x).detach())))
        thread.start()
        thread.join()
    assert torch.allclose(found[0], run(model, x, IDS), atol=1e-5)
