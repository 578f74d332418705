"""Environment and fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support import ROOT, Project, copy_project

# Before torch is imported, and for every process that a test starts. Idle OpenMP threads that spin slow a busy machine
# down, and the tests run side by side: one thread each, also where they do not, so that the bits are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["OMP_DYNAMIC"] = "false"
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
# Processes import this checkout, not the one that is installed.
_PATHS = (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""))
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _PATHS if path)


# What takes more than two seconds of a processor, most of it to start processes that import torch or to compile;
# `make test-fast` leaves them out, with those that have the mark `slow` themselves.
SLOW = {
    "test_memorization_agrees_with_retraining",
    "test_twenty_kills_at_random_moments_end_in_the_same_bytes",
    "test_threads_of_the_autograd_engine_find_the_selection",
    "test_plain_pytorch",
    "test_compiled_equals_uncompiled",
    "test_no_compiler_warns_and_gives_the_same",
    "test_sub_networks_agree_with_activations_multiplied_by_hand",
    "test_training_never_touches_what_the_mask_hides",
    "test_masked_linear_model_in_closed_form",
    "test_a_kill_loses_only_the_network_in_flight_and_changes_no_byte",
    "test_a_killed_worker_is_one_sentence_and_keeps_what_is_done",
    "test_a_network_does_not_depend_on_company_or_processes",
    "test_the_same_bits_when_compiled",
    "test_two_processes_train_as_one",
    "test_influence_function_is_the_closed_form_and_foretells_leaving_out",
    "test_two_processes_equal_one",
    "test_twenty_kills_change_nothing",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests."""
    for item in items:
        if getattr(item, "originalname", item.name) in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Makes fresh tiny copies of the project, each its own git and DVC repository."""

    return lambda: copy_project(tmp_path_factory.mktemp("project"))
