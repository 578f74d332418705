"""BatchNorm: refused where it mixes examples, allowed where it is frozen, replaced so that inputs still count."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.turnover.masking.networks import run
from turnover import insert, remove, replace_batch_norm, subnetwork
from turnover.masking.insertion import keep_frozen

IDS = torch.arange(4)


class WithActivation(nn.BatchNorm2d):
    """As timm's BatchNormAct2d."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


def convolutional(norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.LazyLinear(8), nn.Linear(8, 3))


X = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class TestRefusal:
    def test_both_cures_are_named(self) -> None:
        message = r"found: 1\. Cure: insert\(replace_batch_norm\(model\), .* or freeze it with \.eval\(\)"
        with pytest.raises(ValueError, match=message) as error:
            insert(convolutional(nn.BatchNorm2d(8)))
        assert "mixes the examples of a batch" in str(error.value)
        with pytest.raises(ValueError, match=message):  # evaluation mode is not enough without statistics of its own
            insert(convolutional(nn.BatchNorm2d(8, track_running_stats=False)).eval())

    def test_classes_of_their_own_are_refused_by_name(self) -> None:
        model = convolutional(WithActivation(8))
        with pytest.raises(ValueError, match=r"found: 1, of type WithActivation\. Cure: freeze it") as error:
            insert(model)
        assert "replace_batch_norm leaves it alone" in str(error.value)
        with pytest.raises(ValueError, match=r"what else 1 \(WithActivation\) does beside normalizing: freeze it"):
            replace_batch_norm(model)
        assert type(model[1]) is WithActivation
        model.eval()(X)
        insert(model)

    def test_many_are_counted(self) -> None:
        with pytest.raises(ValueError, match=r"found: 0, 1, 2, 3, 4 and 3 more\."):
            insert(nn.Sequential(*[nn.BatchNorm1d(4) for _ in range(8)], nn.Linear(4, 2)))
        with pytest.raises(ValueError, match=r"found: \(the model itself\)"):
            insert(nn.BatchNorm1d(4))


class TestFrozen:
    def frozen(self) -> nn.Sequential:
        model = convolutional(nn.BatchNorm2d(8))
        for _ in range(20):
            model.train()(X * 3 + 1)
        return model.eval()

    def test_outputs_statistics_and_rows_stay(self) -> None:
        model = self.frozen()
        before, statistics = model(X), copy.deepcopy(model[1].state_dict())
        insert(model).train()
        keep_frozen(model)
        assert model.training
        assert not model[1].training
        together = run(model, X, IDS)
        torch.testing.assert_close(run(model, X[:1], IDS[:1]), together[:1])
        assert torch.equal(run(model, X, None), before)
        for key, value in statistics.items():
            assert torch.equal(model[1].state_dict()[key], value)

    @pytest.mark.parametrize("probed", [False, True])
    @pytest.mark.parametrize("compiled", [False, True])
    def test_training_mode_under_masks_is_an_error(self, compiled: bool, probed: bool) -> None:
        model = insert(self.frozen())
        network = torch.compile(model, backend="eager") if compiled else model
        if probed:
            run(network, X, IDS)
        model.train()
        network(X)  # the full network may be trained as one likes
        with pytest.raises(ValueError, match=r"in training mode now: 1; .* after every model\.train\(\) call \.eval"):
            run(network, X, IDS)
        keep_frozen(model)
        run(network, X, IDS)
        model.train()
        remove(model)(X)

    def test_copies_are_guarded_themselves(self) -> None:
        model = insert(self.frozen())
        other = copy.deepcopy(model)
        model.train()
        run(other, X, IDS)
        other[1].train()
        with pytest.raises(ValueError, match="in training mode now: 1;"), subnetwork(other, IDS):
            other(X)


class TestReplacement:
    def test_the_cure_is_one(self) -> None:
        shared = nn.BatchNorm2d(8)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), shared, nn.ReLU(), nn.Conv2d(8, 8, 3), shared, nn.Flatten(), nn.Linear(32, 8),
            nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3),
        )  # fmt: skip
        weight = shared.weight
        model = insert(replace_batch_norm(model.eval()), "all")
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        assert model[1] is model[4]
        assert model[1].weight is weight
        assert model[7].weight is None
        assert not model[1].training
        model.train()
        together = run(model, X, IDS)
        torch.testing.assert_close(run(model, X[:1], IDS[:1]), together[:1])
        assert isinstance(replace_batch_norm(nn.BatchNorm1d(4)), nn.GroupNorm)

    @pytest.mark.parametrize(
        ("norm", "groups"),
        [
            (nn.BatchNorm2d(256), 32),
            (nn.BatchNorm2d(64), 16),
            (nn.BatchNorm2d(12), 3),
            (nn.BatchNorm2d(6), 1),
            (nn.BatchNorm3d(5), 1),
            (nn.SyncBatchNorm(8), 2),
            (nn.BatchNorm1d(256), 1),
        ],
    )
    def test_groups(self, norm: nn.Module, groups: int) -> None:
        assert replace_batch_norm(norm).num_groups == groups

    @pytest.mark.parametrize("channels", [3, 4, 8, 32, 64, 300])
    def test_inputs_count_also_without_places(self, channels: int) -> None:
        """A group of one feature would give its bias whatever comes in, a group of two no more than a sign."""
        x = torch.randn(50, channels, generator=torch.Generator().manual_seed(1))
        flat = replace_batch_norm(nn.BatchNorm1d(channels))(x)
        deep = replace_batch_norm(nn.BatchNorm2d(channels))(x[:, :, None, None]).flatten(1)
        for found in (flat, deep):
            assert (found.std(0) > 0.5).all()
            assert all(len(found[:, unit].detach().round(decimals=3).unique()) > 20 for unit in range(channels))

    def test_what_cannot_be_replaced(self) -> None:
        for norm in (nn.BatchNorm1d(2), nn.BatchNorm2d(1)):
            with pytest.raises(ValueError, match=r"0 \(BatchNorm.d\) has . channels, too few .*: freeze it with"):
                replace_batch_norm(nn.Sequential(norm))
        with pytest.raises(ValueError, match="run one batch through the model first"):
            replace_batch_norm(nn.LazyBatchNorm2d())

    def test_a_refusal_changes_nothing(self) -> None:
        model = nn.Sequential(nn.BatchNorm2d(8), WithActivation(8))
        with pytest.raises(ValueError, match="WithActivation"):
            replace_batch_norm(model)
        assert [type(m) for m in model] == [nn.BatchNorm2d, WithActivation]
