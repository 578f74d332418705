"""The first signal is a request, the second one is meant."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from turnover.interruption import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks_and_the_second_acts_as_before(number: signal.Signals) -> None:
    seen: list[int] = []
    before = signal.signal(number, lambda received, frame: seen.append(received))
    try:
        with stop_on_signals() as stop:
            assert stop() == 0
            os.kill(os.getpid(), number)
            assert stop() == number
            assert seen == []
            os.kill(os.getpid(), number)
            assert seen == [number]
        with stop_on_signals() as stop:
            pass
        os.kill(os.getpid(), number)
        assert seen == [number, number]
    finally:
        signal.signal(number, before)


def test_in_another_thread_nothing_changes() -> None:
    handlers: list[object] = []

    def work() -> None:
        with stop_on_signals() as stop:
            handlers.append(signal.getsignal(signal.SIGINT))
            assert stop() == 0

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
