"""`subnetwork` under everything that a user's own loop may do to a network."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.turnover.masking.networks import IDS, batch, mlp, run
from turnover import TurnOverDropout, insert, remove, subnetwork
from turnover.masking.ids import example_ids
from turnover.masking.layer import masked_layers


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
        with pytest.raises(TypeError, match="must be integers or names, got torch.float32"), subnetwork(model, x[0]):
            pass
        with pytest.raises(ValueError, match="one id a row"), subnetwork(model, torch.zeros(2, 3, 4).long()):
            pass
        with pytest.raises(ValueError, match=r"no turn-over dropout: call insert"), subnetwork(nn.Linear(2, 2), IDS):
            pass
        layer = TurnOverDropout()
        with pytest.raises(ValueError, match=r"got shape \(6,\): it needs \[batch"), subnetwork(layer, IDS):
            layer(x[:, 0])

    def test_a_block_that_reaches_no_masked_layer_is_an_error(self) -> None:
        model, other, (x, _) = mlp(), mlp(seed=1), batch()
        message = r"never reaches the turn-over dropout inserted at '1', '3', .* call the same model"
        with pytest.raises(ValueError, match=message), subnetwork(model, IDS):
            pass
        with pytest.raises(ValueError, match=message), subnetwork(model, IDS), subnetwork(other, IDS):
            other(x)
        with pytest.raises(KeyError), subnetwork(model, IDS):
            raise KeyError  # an error is not hidden by another one
        with subnetwork(model, IDS), subnetwork(model, IDS + 1):
            model(x)  # what the inner block reaches, the outer one does

    def test_names_select_a_sub_network(self) -> None:
        model, (x, _) = mlp(), batch()
        names = [f"image-{i}.png" for i in range(6)]
        assert torch.equal(run(model, x, names), run(model, x, example_ids(names)))
        assert not torch.equal(run(model, x, names), run(model, x, IDS))

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
            model(x)
            inside = clone(model)  # type: ignore[operator]
            assert torch.equal(other(x), full)
            assert torch.equal(inside(x), full)
        with subnetwork(other, IDS), torch.no_grad():
            other(x)
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
            model(x)
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
