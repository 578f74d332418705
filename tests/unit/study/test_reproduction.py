"""The comparison behind `make check`."""

from study.reproduction import differences

COMMITTED = {"mixed": {"accuracy": 0.83, "loss": 4.0, "n": 4000, "name": "mixed", "seeds": [0, 1]}}


def changed(**values: object) -> dict[str, dict[str, object]]:
    return {"mixed": {**COMMITTED["mixed"], **values}}


def test_small_differences_pass() -> None:
    assert differences(COMMITTED, changed(accuracy=0.85, loss=4.9)) == []


def test_large_or_structural_differences_are_named_with_both_values() -> None:
    assert differences(COMMITTED, changed(accuracy=0.70))[0].startswith("mixed.accuracy: committed 0.83, now 0.7")
    assert differences(COMMITTED, changed(loss=8.0))[0].startswith("mixed.loss: committed 4.0, now 8.0")
    assert differences(COMMITTED, changed(name="real")) == ["mixed.name: committed 'mixed', now 'real'"]
    assert differences(COMMITTED, changed(seeds=[0])) == ["mixed.seeds[1]: only in one of the two"]
    assert differences(COMMITTED, changed(extra=1)) == ["mixed.extra: only in one of the two"]
