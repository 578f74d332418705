"""Turn-over dropout: which training examples a network memorized, and which ones shaped a prediction."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnover.attribution.influence import influence
    from turnover.attribution.nearness import Localized, localize, pool_within_classes
    from turnover.attribution.store import ScoreStore
    from turnover.attribution.summary import InfluenceSummary, summarize
    from turnover.auditing.audits import audit
    from turnover.errors import UserError
    from turnover.exploring.explorer import Explorer
    from turnover.exploring.writing import write_explorer
    from turnover.masking.insertion import insert, remove
    from turnover.masking.layer import TurnOverDropout
    from turnover.masking.masks import InstanceMasks
    from turnover.masking.norms import replace_batch_norm
    from turnover.masking.subnetworks import subnetwork
    from turnover.reading.loaders import with_ids
    from turnover.reading.one_pass import read
    from turnover.reading.over_training import Predictions
    from turnover.reading.readings import Readings
    from turnover.scoring.calibration import calibrate
    from turnover.scoring.memorization import combine, memorization, memorization_over_training
    from turnover.scoring.neighbourhood import neighbourhood
    from turnover.scoring.sharpening import average_over_training, sharpen
    from turnover.training.loop import train
    from turnover.training.settings import TrainingConfig

# Imported on first use: torch takes seconds to import, and what only asks for an error class must not wait for it.
_HOMES = {
    "Explorer": "exploring.explorer",
    "InfluenceSummary": "attribution.summary",
    "InstanceMasks": "masking.masks",
    "Localized": "attribution.nearness",
    "Predictions": "reading.over_training",
    "Readings": "reading.readings",
    "ScoreStore": "attribution.store",
    "TrainingConfig": "training.settings",
    "TurnOverDropout": "masking.layer",
    "UserError": "errors",
    "audit": "auditing.audits",
    "average_over_training": "scoring.sharpening",
    "calibrate": "scoring.calibration",
    "combine": "scoring.memorization",
    "influence": "attribution.influence",
    "insert": "masking.insertion",
    "localize": "attribution.nearness",
    "memorization": "scoring.memorization",
    "memorization_over_training": "scoring.memorization",
    "neighbourhood": "scoring.neighbourhood",
    "pool_within_classes": "attribution.nearness",
    "read": "reading.one_pass",
    "remove": "masking.insertion",
    "replace_batch_norm": "masking.norms",
    "sharpen": "scoring.sharpening",
    "subnetwork": "masking.subnetworks",
    "summarize": "attribution.summary",
    "train": "training.loop",
    "with_ids": "reading.loaders",
    "write_explorer": "exploring.writing",
}
# Written out, because type checkers take nothing else for exported.
__all__ = [
    "Explorer",
    "InfluenceSummary",
    "InstanceMasks",
    "Localized",
    "Predictions",
    "Readings",
    "ScoreStore",
    "TrainingConfig",
    "TurnOverDropout",
    "UserError",
    "audit",
    "average_over_training",
    "calibrate",
    "combine",
    "influence",
    "insert",
    "localize",
    "memorization",
    "memorization_over_training",
    "neighbourhood",
    "pool_within_classes",
    "read",
    "remove",
    "replace_batch_norm",
    "sharpen",
    "subnetwork",
    "summarize",
    "train",
    "with_ids",
    "write_explorer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'turnover' has no attribute {name!r}")
    return getattr(import_module(f"turnover.{_HOMES[name]}"), name)
