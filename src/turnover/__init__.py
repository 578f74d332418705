"""Turn-over dropout: which training examples a network memorized, and which ones shaped a prediction."""

# ruff: noqa: F401  (what looks unused is in __all__, which is computed)
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnover.calibration import calibrate
    from turnover.dropout import TurnOverDropout, insert, remove, replace_batch_norm, subnetwork
    from turnover.errors import UserError
    from turnover.influence import InfluenceSummary, Localized, influence, localize, neighbourhood, summarize
    from turnover.masks import InstanceMasks
    from turnover.memorization import combine, ensemble_memorization, memorization, memorization_over_training
    from turnover.pooling import pool_within_classes
    from turnover.training import TrainingConfig, train
    from turnover.trajectories import average_over_training, sharpen

# Imported on first use: torch takes seconds to import, and the pipeline's checks must answer at once.
_HOMES = {
    "InfluenceSummary": "influence",
    "InstanceMasks": "masks",
    "Localized": "influence",
    "TrainingConfig": "training",
    "TurnOverDropout": "dropout",
    "UserError": "errors",
    "average_over_training": "trajectories",
    "calibrate": "calibration",
    "combine": "memorization",
    "ensemble_memorization": "memorization",
    "influence": "influence",
    "insert": "dropout",
    "localize": "influence",
    "memorization": "memorization",
    "memorization_over_training": "memorization",
    "neighbourhood": "influence",
    "pool_within_classes": "pooling",
    "remove": "dropout",
    "replace_batch_norm": "dropout",
    "sharpen": "trajectories",
    "subnetwork": "dropout",
    "summarize": "influence",
    "train": "training",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'turnover' has no attribute {name!r}")
    return getattr(import_module(f"turnover.{_HOMES[name]}"), name)


class _Package(ModuleType):
    """Keeps `turnover.influence` and `turnover.memorization` the functions: importing the submodule of the same name,
    by whatever path, would otherwise put the module in their place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
