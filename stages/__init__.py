"""One script for each DVC stage: read declared params, call the library, write outs.

What is settled here must stand before torch is imported, and the packages are taken from this checkout's own `src`, so
that a temporary DVC experiment runs its own snapshot of the code.
"""

import os
import sys
from pathlib import Path

# Idle OpenMP threads that spin slow a busy machine down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A number of threads that changes by itself hangs oneDNN's backward convolution for ever.
os.environ["OMP_DYNAMIC"] = "false"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from study.context.allocator import keep_freed_memory
from study.context.lifetime import end_with_dvc

keep_freed_memory()
end_with_dvc()
