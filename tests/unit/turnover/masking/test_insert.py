"""Where `insert` puts masks, what it refuses, and what `remove` takes out again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.unit.turnover.masking.networks import IDS, batch, mlp, run
from turnover import TurnOverDropout, insert, remove, subnetwork
from turnover.masking.identity import masks_identity
from turnover.masking.insertion import WidenedHead, head
from turnover.masking.layer import masked_layers


class TestInsert:
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

    def test_written_by_hand(self) -> None:
        model = nn.Sequential(nn.Linear(12, 10), TurnOverDropout(0.3, layer=4), nn.Linear(10, 2))
        assert [layer.layer for layer in masked_layers(model)] == [4]
        x, _ = batch()
        hidden = model[0](x) * masked_layers(model)[0].masks(10)(IDS) / 0.3
        torch.testing.assert_close(run(model, x, IDS), model[2](hidden))
        assert "keep=0.3, seed=0, layer=4" in repr(model)


class TestIdentity:
    """`masks_identity` is the same where all masks are, and only there."""

    def test_the_same_masks(self) -> None:
        model = mlp(["1"])
        expected = masks_identity(model)
        with torch.no_grad():
            model[0].weight.zero_()
        same = (mlp(["1"]), copy.deepcopy(model), model.train(), torch.compile(model, backend="eager"))
        assert {masks_identity(other) for other in same} == {expected}
        with subnetwork(model, IDS):
            model(batch()[0])
            assert masks_identity(model) == expected
        assert masks_identity(remove(model)) == masks_identity(mlp_without_masks())

    def test_every_difference_shows(self) -> None:
        alike = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        found = [
            masks_identity(insert(copy.deepcopy(alike), after, keep, seed))
            for after in (["1"], ["3"], ["1", "3"], ["2"], "head", ["4"])
            for keep in (0.5, 0.25)
            for seed in (0, 1)
        ]
        found += [
            masks_identity(nn.Sequential(alike, TurnOverDropout(*settings)))
            for settings in ((0.5, 0), (0.5, 0, 1), (0.5, 0, 0, 1), (0.5, 0, 0, None, 8))
        ]
        found += [masks_identity(nn.Sequential(TurnOverDropout(0.5, 0), alike)), masks_identity(alike)]
        assert len(set(found)) == len(found) == 30


def mlp_without_masks() -> nn.Module:
    return remove(mlp())
