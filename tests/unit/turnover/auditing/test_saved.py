"""Folders that Hugging Face's `datasets` saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.turnover.auditing.conftest import QUICK
from tests.unit.turnover.auditing.examples import CLASSES, drawing, embeddings
from turnover import audit
from turnover.auditing.inputs import look
from turnover.auditing.pictures import decode
from turnover.errors import UserError

datasets = pytest.importorskip("datasets")


def drawn(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(drawing(CLASSES[number % 3], rng)) for number in range(count)]


def of_images(count: int, labels: Any, **more: Any) -> Any:
    features = datasets.Features(
        {"picture": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES)), **more}
    )
    return datasets.Dataset.from_dict({"picture": drawn(count), "label": labels}, features=features)


def test_images_have_their_pixels_names_and_classes(tmp_path: Path) -> None:
    of_images(12, [0, 1, 2] * 4).save_to_disk(tmp_path / "set")
    found = look(tmp_path / "set")
    assert found.classes == CLASSES and found.splits is None
    assert set(found.names) == {str(place) for place in range(12)}
    pixels = decode(found.rows, (16, 16), progress=False).pixels
    of = dict(zip(found.names, pixels, strict=True))
    for place, picture in enumerate(drawn(12)):
        assert np.array_equal(of[str(place)][0], np.asarray(picture))
    labels = dict(zip(found.names, found.labels, strict=True))
    assert [labels[str(place)] for place in range(12)] == [0, 1, 2] * 4


def test_splits_and_unknown_labels(tmp_path: Path) -> None:
    splits = {
        "train": of_images(9, [0, 1, 2] * 3),
        "test": of_images(6, [0, 1, -1] * 2),
        "extra": of_images(3, [0] * 3),
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    found = look(tmp_path / "set")
    assert found.splits is not None
    assert (found.splits.count("train"), found.splits.count("test")) == (9, 4)
    assert "train/8" in found.names and "test/2" not in found.names
    said = " ".join(found.notices)
    assert "passed over the splits extra" in said and "passed over 2 examples without a label" in said


def test_a_selection_in_another_order_is_the_selection(tmp_path: Path) -> None:
    of_images(12, [0, 1, 2] * 4).select([11, 4, 3, 2, 1, 0]).save_to_disk(tmp_path / "set")
    found = look(tmp_path / "set")
    pixels = dict(zip(found.names, decode(found.rows, (16, 16), progress=False).pixels, strict=True))
    assert np.array_equal(pixels["0"][0], np.asarray(drawn(12)[11]))


def test_embeddings_are_audited(tmp_path: Path) -> None:
    features, given, _ = embeddings()
    table = {"embedding": features.tolist(), "label": [f"class {label}" for label in given]}
    datasets.Dataset.from_dict(table).save_to_disk(tmp_path / "set")
    found = audit(tmp_path / "set", out=None, **QUICK)
    direct = audit(features, [f"class {label}" for label in given], out=None, **QUICK)
    assert found.labels.equals(direct.labels)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"text": ["a", "b"], "label": [0, 1]}, "has no column of images or embeddings"),
        ({"embedding": [[1.0], [2.0]], "number": [0, 1]}, "has no column of labels"),
        ({"embedding": [[1.0], [2.0, 3.0]], "label": [0, 1]}, "are no lists of one length"),
        ({"embedding": [[1.0], [2.0]], "label": ["a", None]}, "example 1 has no label"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    datasets.Dataset.from_dict(table).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError) as caught:
        look(tmp_path / "set")
    assert message in str(caught.value)


def test_a_damaged_folder_is_one_sentence(tmp_path: Path) -> None:
    of_images(6, [0, 1, 2] * 2).save_to_disk(tmp_path / "set")
    (next((tmp_path / "set").glob("*.arrow"))).write_bytes(b"x")
    with pytest.raises(UserError, match="cannot be read"):
        look(tmp_path / "set")
