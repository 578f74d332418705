"""Outside of a `subnetwork` the network is the plain one: exported, traced, mapped, unbatched, on nested tensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.turnover.masking.networks import IDS, batch, mlp, run
from turnover import TurnOverDropout, insert, remove, subnetwork
from turnover.masking.layer import masked_layers


class TestExport:
    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize("width", [None, 64])
    def test_the_program_is_the_plain_network(self, strict: bool, width: int | None) -> None:
        model, (x, _) = remove(mlp()), batch()
        insert(model, "all" if width is None else "head", width=width).eval()
        run(model, x, IDS)  # also once masks were in use
        program = torch.export.export(model, (x,), strict=strict)
        assert not [node for node in program.graph.nodes if "turnover" in str(node.target)]
        torch.testing.assert_close(program.module()(x), model(x))

    def test_it_runs_where_this_library_is_not(self, tmp_path: Path) -> None:
        model, (x, _) = mlp().eval(), batch()
        torch.export.save(torch.export.export(model, (x,)), tmp_path / "network.pt2")
        load = f"torch.export.load({str(tmp_path / 'network.pt2')!r}).module()"
        code = f"import sys, torch; print({load}(torch.ones(6, 12)).shape, 'turnover' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "torch.Size([6, 4]) False"

    @pytest.mark.slow
    def test_onnx_has_the_plain_network(self, tmp_path: Path) -> None:
        from onnx.reference import ReferenceEvaluator

        model, (x, _) = mlp().eval(), batch()
        run(model, x, IDS)
        torch.onnx.export(model, (x,), tmp_path / "network.onnx", dynamo=True, verbose=False)
        found = ReferenceEvaluator(str(tmp_path / "network.onnx"))
        (logits,) = found.run(None, {found.input_names[0]: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), model(x).detach(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("strict", [False, True])
    def test_inside_of_a_sub_network_it_is_refused(self, strict: bool) -> None:
        model, (x, _) = mlp(), batch()
        with (
            pytest.raises(Exception, match=r"exported inside of `with subnetwork.*remove\(model\)"),
            subnetwork(model, IDS),
        ):
            torch.export.export(model, (x,), strict=strict)

    def test_torchscript(self) -> None:
        model, (x, _) = mlp().eval(), batch()
        traced = torch.jit.trace(model, x)  # type: ignore[no-untyped-call]
        assert "turnover" not in str(traced.graph)
        assert torch.equal(traced(x), model(x))
        with pytest.raises(ValueError, match="exported inside"), subnetwork(model, IDS):
            torch.jit.trace(model, x)  # type: ignore[no-untyped-call]
        with pytest.raises(AttributeError, match=r"call remove\(model\) first"):
            torch.jit.script(model)

    def test_symbolic_tracing(self) -> None:
        model, (x, _) = mlp(), batch()
        graph = torch.fx.symbolic_trace(model)  # calls the modules that are masked, and with them the masks
        assert torch.equal(graph(x), model(x))
        assert torch.equal(run(graph, x, IDS), run(model, x, IDS))
        by_hand = nn.Sequential(nn.Linear(12, 8), TurnOverDropout(), nn.Linear(8, 4))
        with pytest.raises(ValueError, match=r"symbolic_trace .*: call remove\(model\) first"):
            torch.fx.symbolic_trace(by_hand)


class TestShapes:
    @pytest.mark.parametrize("compiled", [False, True])
    def test_unbatched_and_mapped_inputs(self, compiled: bool) -> None:
        model, (x, _) = mlp(), batch()
        full = run(model, x, None)

        def mapped(x: Tensor) -> Tensor:
            return torch.func.vmap(model)(x)  # type: ignore[no-any-return]

        torch.compiler.reset()
        one, many = (torch.compile(f, backend="aot_eager", fullgraph=True) if compiled else f for f in (model, mapped))
        torch.testing.assert_close(one(x[0]), full[0])
        torch.testing.assert_close(many(x), full)
        torch.testing.assert_close(torch.func.jacrev(model)(x[0]), torch.func.jacrev(remove(mlp()))(x[0]))

    def test_mapped_rows_inside_of_a_sub_network(self) -> None:
        """Eagerly an error. Compiled outside, run inside: the masks of the rows, and not those of the first run."""
        model, (x, _) = mlp(), batch()
        run(model, x, IDS)  # the first block would run uncompiled
        torch.compiler.reset()
        mapped: Any = torch.compile(torch.func.vmap(model), backend="aot_eager")
        torch.testing.assert_close(mapped(x), model(x))
        with torch.no_grad(), subnetwork(model, IDS):
            found, expected = mapped(x), model(x)
            with pytest.raises(ValueError, match="inside of torch.func.vmap a masked layer"):
                torch.func.vmap(model)(x)
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, model(x))


class Padded(nn.Module):
    """A transformer that takes nested tensors in evaluation mode, and never looks at padding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder, self.classify = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        hidden = self.encoder(x, src_key_padding_mask=padding)
        return self.classify(hidden[:, 0])  # type: ignore[no-any-return]


class TestNested:
    @pytest.mark.parametrize("after", ["head", ["encoder"], ["encoder.layers.0"], ["encoder.layers.1.norm2"]])
    def test_padded_batches_have_the_same_masks_in_training_and_evaluation(self, after: str | list[str]) -> None:
        model, x = Padded().eval(), torch.randn(6, 5, 8)
        padding = torch.arange(5) >= torch.tensor([[5], [3], [4], [2], [5], [3]])
        nested: list[bool] = []
        model.encoder.layers[1].register_forward_pre_hook(lambda _, args: nested.append(args[0].is_nested))
        with torch.no_grad():
            full = model(x, padding)
            assert nested == [True]
            insert(model, after)
            torch.testing.assert_close(model(x, padding), full)
            found = []
            for training in (False, True):
                with subnetwork(model.train(training), IDS):
                    found.append(model(x, padding))
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
        assert ((found[0] - full).abs().amax(1) > 1e-3).all()
        assert masked_layers(model)[0].probed

    @pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
    def test_the_layer_itself(self, layout: torch.layout) -> None:
        layer, rows = TurnOverDropout(0.25), [torch.randn(2, 8), torch.randn(3, 8)]
        x = torch.nested.nested_tensor(rows, layout=layout)
        assert layer(x) is x
        with subnetwork(layer, [3, 4]):
            found = layer(x)
        masks = layer.masks(8)(torch.tensor([3, 4]))
        for part, row, mask in zip(found.unbind(), rows, masks, strict=True):
            torch.testing.assert_close(part, row * mask * 4)
        with pytest.raises(ValueError, match="given 3 ids"), subnetwork(layer, [3, 4, 5]):
            layer(x)
