import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study.data.sources.dataset import ARRAYS, NAMES_FILE, DataError, load
from study.data.sources.fetching import fetch
from tests.unit.study.data.pictures import refusal, save, table


def test_a_folder_of_class_folders(pictures: Path, tmp_path: Path) -> None:
    dataset = load(fetch(f"folder:{pictures}", tmp_path / "set"))
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.images.shape[1:] == (1, 3, 4)
    assert len(dataset.train) + len(dataset.test) == 60
    assert 1 <= len(dataset.test) <= 15
    for part in (dataset.train, dataset.test):
        assert ((part.images[:, 0, 0, 0] >= 100) == (part.labels == 1)).all()
    painted = np.concatenate([dataset.train.images, dataset.test.images])[:, 0, 0, 0]
    assert sorted(painted) == [*range(30), *range(100, 130)]
    names = sorted(f"cat/{i}.png" for i in range(30))
    cats = [int(name[4:-4]) for name in names]
    held_out = set(dataset.test.images[:, 0, 0, 0].tolist())
    assert dataset.train.images[dataset.train.labels == 0][:, 0, 0, 0].tolist() == [
        i for i in cats if i not in held_out
    ]


def test_adding_images_moves_no_other_between_the_splits(pictures: Path, tmp_path: Path) -> None:
    before = load(fetch(f"folder:{pictures}", tmp_path / "before")).test.images[:, 0, 0, 0].tolist()
    for i in range(30, 60):
        save(pictures / f"cat/{i}.png", i)
    after = load(fetch(f"folder:{pictures}", tmp_path / "after")).test.images[:, 0, 0, 0].tolist()
    assert [value for value in after if not 30 <= value < 60] == before


def test_changed_images_are_read_again(pictures: Path, tmp_path: Path) -> None:
    fetch(f"folder:{pictures}", tmp_path / "set")
    save(pictures / "cat/0.png", 77)
    dataset = load(fetch(f"folder:{pictures}", tmp_path / "set"))
    assert 77 in np.concatenate([dataset.train.images, dataset.test.images])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_gives_the_same_bytes_as_the_folder(pictures: Path, tmp_path: Path, suffix: str) -> None:
    rows = [{"path": f"./{label}/{i}.png", "label": label} for i in reversed(range(30)) for label in ("dog", "cat")]
    one = fetch(f"folder:{pictures}", tmp_path / "one")
    other = fetch(table(pictures / f"all{suffix}", rows), tmp_path / "other")
    for name in ARRAYS:
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert load(one).classes == load(other).classes


def test_images_outside_of_a_table_s_folder_are_read_on_request_only(pictures: Path, tmp_path: Path) -> None:
    """By an absolute path, by the parent folder, or by a link; a path that comes back is inside."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/linked").symlink_to(pictures)
    for lead in (str(pictures), f"../{pictures.name}", "linked"):
        rows = [{"path": f"{lead}/{label}/{i}.png", "label": label} for i in range(30) for label in ("cat", "dog")]
        place = table(tmp_path / "lists/all.csv", rows)
        said = refusal(place, tmp_path)
        assert f"60 images lie outside of {tmp_path / 'lists'}, such as {lead}/cat/0.png; copy them into it" in said
        assert said.endswith(f"or allow it by data.dataset table-outside:{tmp_path / 'lists/all.csv'}")
        asked = load(fetch(place.replace("table:", "table-outside:"), tmp_path / "asked"))
        assert len(asked.train) + len(asked.test) == 60
        shutil.rmtree(tmp_path / "asked")
    back = [{"path": f"../{pictures.name}/cat/{i}.png", "label": "ab"[i % 2]} for i in range(30)]
    assert load(fetch(table(pictures / "all.csv", back), tmp_path / "set")).classes == ("a", "b")


def test_given_splits_are_kept(pictures: Path, tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2)):
        for i in range(count):
            save(tmp_path / f"split/{part}/b/{i}.png", i)
            save(tmp_path / f"split/{part}/a/{i}.png", 50 + i)
    dataset = load(fetch(f"folder:{tmp_path / 'split'}", tmp_path / "one"))
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    assert dataset.train.images[:, 0, 0, 0].tolist() == [50, 51, 52, 0, 1, 2]
    rows = [
        {"path": f"{label}/{i}.png", "label": label, "split": "test" if i < 10 else "train"}
        for i in range(30)
        for label in ("cat", "dog")
    ]
    dataset = load(fetch(table(pictures / "all.csv", rows), tmp_path / "other"))
    assert sorted(dataset.test.images[:, 0, 0, 0].tolist()) == [*range(10), *range(100, 110)]


def test_number_labels_sort_as_numbers_and_words_stay_words(pictures: Path, tmp_path: Path) -> None:
    rows = [{"path": f"cat/{i}.png", "label": (2, 10, 1)[i % 3]} for i in range(30)]
    dataset = load(fetch(table(pictures / "n.parquet", rows), tmp_path / "n"))
    assert dataset.classes == ("1", "2", "10")
    assert (dataset.train.labels == [(1, 2, 0)[v % 3] for v in dataset.train.images[:, 0, 0, 0]]).all()
    rows = [{"path": f"cat/{i}.png", "label": ("NA", "None", "10")[i % 3]} for i in range(30)]
    assert load(fetch(table(pictures / "w.csv", rows), tmp_path / "w")).classes == ("10", "NA", "None")


def test_one_coloured_image_makes_all_rgb(pictures: Path, tmp_path: Path) -> None:
    save(pictures / "cat/5.png", 200, mode="RGBA")
    dataset = load(fetch(f"folder:{pictures}", tmp_path / "set"))
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert images.shape[1:] == (3, 3, 4)
    assert [200, 0, 55] in images[:, :, 0, 0].tolist()
    assert [7, 7, 7] in images[:, :, 0, 0].tolist()


def test_what_is_no_image_is_passed_over_with_a_note(pictures: Path, tmp_path: Path, caplog) -> None:
    (pictures / "cat/Thumbs.db").write_text("x")
    (pictures / "cat/.hidden").write_text("x")
    (pictures / ".cache").mkdir()
    fetch(f"folder:{pictures}", tmp_path / "set")
    assert "1 files" in caplog.text
    assert "Thumbs.db" in caplog.text


def test_a_handful_of_images_still_has_a_test_part(tmp_path: Path) -> None:
    for attempt in range(6):  # several, as luck puts one of so few there now and then
        few = tmp_path / f"few{attempt}"
        for name in ("a/1", "a/2", "b/1", "b/2"):
            save(few / f"{name}{attempt}.png")
        assert len(load(fetch(f"folder:{few}", tmp_path / f"set{attempt}")).test) >= 1


def test_folder_errors_name_what_is_wrong(pictures: Path, tmp_path: Path) -> None:
    assert "names no place" in refusal("folder:", tmp_path)
    assert str(tmp_path / "nowhere") in refusal(f"folder:{tmp_path / 'nowhere'}", tmp_path)
    (tmp_path / "empty").mkdir()
    assert "holds no image; a folder holds class/name.png" in refusal(f"folder:{tmp_path / 'empty'}", tmp_path)
    save(tmp_path / "lone/cat/1.png")
    assert "one class only, 'cat'" in refusal(f"folder:{tmp_path / 'lone'}", tmp_path)
    (pictures / "owl").mkdir()
    assert f"{pictures / 'owl'} holds no image" in refusal(f"folder:{pictures}", tmp_path)


def test_unreadable_images_are_named(pictures: Path, tmp_path: Path) -> None:
    whole = (pictures / "dog/3.png").read_bytes()
    for broken in (b"", b"not a picture", whole[: len(whole) // 2], whole[:45] + b"\xff" * 8 + whole[53:]):
        (pictures / "dog/3.png").write_bytes(broken)
        message = refusal(f"folder:{pictures}", tmp_path)
        assert str(pictures / "dog/3.png") in message
        assert "cannot be read" in message


def test_sizes_that_differ_name_the_first_two_and_the_cure(pictures: Path, tmp_path: Path) -> None:
    save(pictures / "dog/3.png", size=(5, 3))
    save(pictures / "dog/4.png", size=(9, 9))
    message = refusal(f"folder:{pictures}", tmp_path)
    assert f"{pictures / 'cat/0.png'} is 4 x 3" in message
    assert f"{pictures / 'dog/3.png'} is 5 x 3" in message
    assert "resize" in message


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    for name in ("train/a/1", "train/b/1", "test/a/2", "test/c/2"):
        save(tmp_path / f"split/{name}.png")
    assert "class 'c' has no training example" in refusal(f"folder:{tmp_path / 'split'}", tmp_path)


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "test"), ("training", "testing")])
def test_folders_of_splits_are_known_in_any_letter_case(tmp_path: Path, train: str, test: str, caplog) -> None:
    for i, name in enumerate((f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b", "notes/a")):
        save(tmp_path / f"split/{name}/1.png", i)
    dataset = load(fetch(f"folder:{tmp_path / 'split'}", tmp_path / "set"))
    assert dataset.classes == ("a", "b")
    assert dataset.train.images[:, 0, 0, 0].tolist() == [0, 1]
    assert dataset.test.images[:, 0, 0, 0].tolist() == [2, 3]
    assert "split/notes, which is neither train nor test" in caplog.text


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ("train val", "holds the split val, but there are two parts only, train and test; rename it to test or merge"),
        ("Train Validation", "holds the split Validation, but there are two parts only, train and test; rename it"),
        ("train dev cats", "holds the split dev, but there are two parts only, train and test; rename it to test"),
        (
            "train test valid",
            "holds the split valid, but there are two parts only, train and test; merge it into train",
        ),
        ("train", "holds the split train, but no test; add test, or name the folder"),
        ("train holdout", "holds the split train, but no test; add test, or name the folder"),
        ("val test", "but no train; a folder holds class/name.png"),
        ("train training test", "are both the train part; merge them"),
    ],
)
def test_folders_of_splits_are_never_taken_for_classes(tmp_path: Path, folders: str, words: str) -> None:
    for folder in folders.split():
        for name in ("a/1", "b/1"):
            save(tmp_path / f"split/{folder}/{name}.png")
    assert words in refusal(f"folder:{tmp_path / 'split'}", tmp_path)


def test_one_class_among_others_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train/1", "train/2", "bus/1", "bus/2", "tram/1", "tram/2"):
        save(tmp_path / f"vehicles/{name}.png")
    assert load(fetch(f"folder:{tmp_path / 'vehicles'}", tmp_path / "set")).classes == ("bus", "train", "tram")


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_every_image_keeps_the_name_of_its_file(pictures: Path, tmp_path: Path, kind: str) -> None:
    rows = [{"path": f"{label}/{i}.png", "label": label} for i in range(30) for label in ("cat", "dog")]
    name = f"folder:{pictures}" if kind == "folder" else table(pictures / "all.csv", rows)
    folder = fetch(name, tmp_path / "set")
    fetch(name, folder)  # a names file is no stranger there
    for part in (load(folder).train, load(folder).test):
        assert part.names is not None and len(part.names) == len(part)
        for image, file in zip(part.images, part.names, strict=True):
            assert (np.asarray(Image.open(pictures / file)) == image[0]).all()


def test_a_name_that_is_no_utf8_is_kept_readable(pictures: Path, tmp_path: Path) -> None:
    (pictures / "cat/0.png").rename(os.fsdecode(os.fsencode(pictures) + b"/cat/caf\xe9.png"))
    dataset = load(fetch(f"folder:{pictures}", tmp_path / "set"))
    assert dataset.train.names is not None and dataset.test.names is not None
    assert "cat/caf\\xe9.png" in dataset.train.names + dataset.test.names


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damaged_or_missing_names_are_refused(pictures: Path, tmp_path: Path, harm: str) -> None:
    folder = fetch(f"folder:{pictures}", tmp_path / "set")
    path = folder / NAMES_FILE
    whole = path.read_bytes()
    if harm == "flip":
        path.write_bytes(whole.replace(b"cat/1.png", b"cat/2.png"))
    elif harm == "cut":
        path.write_bytes(whole[:-5])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"corrupt \(names\.json .*fetch it again|corrupt \(names\.json: No such file"):
        load(folder)
    load(fetch(f"folder:{pictures}", folder))
    assert path.read_bytes() == whole


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_forbidden_folder_is_named(pictures: Path, tmp_path: Path) -> None:
    (pictures / "cat").chmod(0)
    try:
        assert "cat" in refusal(f"folder:{pictures}", tmp_path)
    finally:
        (pictures / "cat").chmod(0o700)
