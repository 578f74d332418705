"""MLflow: what every training did, live while it trains, and restored by `study.commands.backfill` where it is missing.

`live` is what a training sees, `recorder` the process beside it that talks to MLflow, `content` what a run holds,
`store` where runs are kept. Nothing in here can change an out: the pipeline's results never depend on MLflow.
"""

from study.tracking.live import Tracker, track

__all__ = ["Tracker", "track"]
