"""MLflow: what every training did, live while it trains, and restored by `study.commands.backfill` where it is missing.

`live` is what a stage sees, `recorder` the thread that talks to MLflow, `content` and `model` what a run holds,
`store` and `place` where runs are kept, `items` all that belongs there, `complete` whether it is there already.
Nothing in here can change an out: the pipeline's results never depend on MLflow.
"""

from study.tracking.live import Tracker, log_estimates, track

__all__ = ["Tracker", "log_estimates", "track"]
