"""Compiled networks and activation checkpointing run under the masks that were asked for, or not at all."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tests.unit.turnover.masking.networks import IDS, batch, gradients, mlp, run
from turnover import subnetwork
from turnover.masking.layer import masked_layers


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
            from turnover.masking.selections import current
            layer, main, seen = TurnOverDropout(), threading.get_ident(), []
            class Nested(torch.autograd.Function):
                @staticmethod
                def forward(ctx, x, depth):
                    ctx.depth = depth
                    return x.clone()
                @staticmethod
                def backward(ctx, grad):
                    if threading.get_ident() != main:
                        seen.append(current(layer._number))
                    if ctx.depth:
                        with torch.enable_grad():
                            Nested.apply(torch.ones((), requires_grad=True), ctx.depth - 1).backward()
                    return grad, None
            with subnetwork(layer, [41]):
                layer(torch.ones(1, 4))
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
