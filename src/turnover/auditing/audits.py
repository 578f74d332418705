"""The audit itself, read from top to bottom: look, train, judge, write."""

from __future__ import annotations

import hashlib
import html
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnover.auditing.folder import check_path, check_place, publish, working, write_json
from turnover.auditing.inputs import Inputs, in_memory, look
from turnover.auditing.settings import Settings, choose
from turnover.errors import UserError

if TYPE_CHECKING:  # imported late: who only looks at a wrong path need not wait for torch and pandas
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from torch import Tensor

TABLES = ("labels", "memorized", "influence", "duplicates", "outliers", "classes")
_TRIED = 4  # steps that are timed before the training


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found; in a notebook it shows itself.

    Attributes:
        labels: a row an example, the most suspicious first: ``rank``, ``name``, ``label``, ``suggested`` with its
            ``suggested_probability``, ``wrong_probability``, ``suspicion`` (log odds), ``false_discovery_rate`` of the
            list down to here, and whether it is a ``suspect``.
        memorized: a row an example, the most memorized first.
        influence: the most helpful and harmful examples of each mistake.
        duplicates: a row a pair.
        outliers: the examples that stand most alone.
        classes: a row a class.
        summary: the numbers that one wants first.
        notices: what was passed over, and what should be known about the data.
        folder: where all of it was written, with ``report.html``; None: nowhere.
    """

    labels: pd.DataFrame
    memorized: pd.DataFrame
    influence: pd.DataFrame
    duplicates: pd.DataFrame
    outliers: pd.DataFrame
    classes: pd.DataFrame
    summary: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    folder: Path | None = None

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"Audit of {s['examples']} examples in {s['classes']} classes: about {s['wrong_labels']:.0f} labels wrong, "
            f"{s['suspects']} suspects"
        )

    def _repr_html_(self) -> str:
        shown = self.labels.head(10).to_html(index=False, border=0)
        notices = "".join(f"<li>{html.escape(notice)}</li>" for notice in self.notices)
        return f"<p><b>{html.escape(repr(self))}</b></p><ul>{notices}</ul>{shown}"


@dataclass(eq=False)
class Prepared:
    """Data as the network takes them, how they were read, and how they will be audited."""

    inputs: Inputs
    data: Tensor
    settings: Settings
    shape: tuple[int, int] | None
    refused: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)  # arguments of `look`

    @cached_property
    def fingerprint(self) -> str:
        """Of the data as they are audited, hex."""
        digest = hashlib.sha256()
        values = self.data.numpy()
        for start in range(0, len(values), 8192):
            digest.update(values[start : start + 8192].tobytes())
        digest.update(self.inputs.labels.tobytes())
        digest.update("\0".join((*self.inputs.names, *self.inputs.classes, *(self.inputs.splits or ()))).encode())
        return digest.hexdigest()


def audit(
    data: Any,
    labels: Any = None,
    *,
    ids: Any = None,
    out: Path | str | None = "audit",
    columns: Mapping[str, str] | None = None,
    outside: bool = False,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    stop: Callable[[], int] | None = None,
    **settings: Any,
) -> Audit:
    """Find the wrong labels, and the memorized, influential and duplicate examples, of labelled images or embeddings.

    A small network is trained once with turn-over dropout, of embeddings a head alone. Every example is judged by what
    was learned from the others; none is held out.

    >>> x = torch.cat([torch.randn(40, 4) - 3, torch.randn(40, 4) + 3])
    >>> y = torch.arange(80) // 40
    >>> y[5] = 1
    >>> found = audit(x, y, epochs=10, out=None)
    >>> found.labels[["name", "label", "suggested"]].iloc[0].tolist()
    ['5', '1', '0']

    Args:
        data: the path of a folder of class folders, a table of paths and labels (csv, tsv, jsonl, parquet) or
            embeddings (npy, npz, parquet); or embeddings [n, d] in memory.
        labels: of embeddings in memory, of any type [n]; of an npy file the path of a file of labels.
        ids: names of embeddings in memory.
        out: the folder to write; an earlier audit there is replaced by the complete new one. None: nothing.
        columns: what the columns "path", "label" and "split" of a table are called, if not so.
        outside: whether images may lie outside of the folder, or of the table's.
        progress: show bars. None: on a terminal.
        say: called with each line that a user should read.
        stop: see `turnover.train`; with `out`, the next call goes on from there.
        settings: those of `turnover.auditing.settings.Settings`; what is not given is chosen from size and machine.

    Raises:
        UserError: one sentence: what is wrong, where, and what to do. Nothing half-written is left in `out`.
        Interrupted: `stop` asked for it.
    """
    say = say or (lambda line: None)
    started = time.monotonic()
    path = Path(data).expanduser() if isinstance(data, str | Path) else None
    place = None if out is None else Path(out).expanduser()
    for given in (path, place):
        if given is not None:
            check_path(given)
    if place is not None:
        check_place(place, path)
    if path is not None:
        inputs = look(path, columns=columns, labels=None if labels is None else Path(labels), outside=outside)
    elif labels is None:
        raise UserError("embeddings in memory need their labels: audit(features, labels)")
    else:
        inputs = in_memory(data, labels, ids)
    prepared = prepare(inputs, settings, say, progress)
    prepared.seconds["reading"] = time.monotonic() - started
    prepared.reading = {"columns": dict(columns or {}), "outside": outside}
    if place is None:
        with _threads(prepared.settings.threads):
            return _judge(prepared, None, None, progress, stop, say)
    with working(place) as work, _threads(prepared.settings.threads):
        found = _judge(prepared, place, work, progress, stop, say)
        publish(work / "new", place, work)
    say(f"{place / 'report.html'} shows it; {place / 'labels.csv'} lists every example")
    return found


def prepare(inputs: Inputs, given: Mapping[str, Any], say: Callable[[str], None], progress: bool | None) -> Prepared:
    """Choose settings, say what was found, and read it."""
    from turnover.auditing.pictures import decode, shape_for, sizes_of

    many = f"{len(inputs):,} {'images' if inputs.rows else 'embeddings'} in {len(inputs.classes)} classes"
    say(f"{inputs.place}: {many}{_splits_text(inputs)}")
    for notice in inputs.notices:
        say(f"note: {notice}")
    sizes = sizes_of(inputs.rows) if inputs.rows else []
    settings = choose(len(inputs), [max(size) for size in sizes], dict(given))

    import torch

    if inputs.embeddings is not None:
        return Prepared(inputs, torch.from_numpy(inputs.embeddings), settings, None, notices=inputs.notices)
    shape = shape_for(sizes, settings.side)
    pictures = decode(inputs.rows, shape, progress=progress)
    for notice in pictures.notices:
        say(f"note: {notice}")
    kept = _kept(inputs, pictures.readable)
    notices = (*inputs.notices, *pictures.notices)
    return Prepared(kept, torch.from_numpy(pictures.pixels), settings, shape, pictures.refused, notices)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Within: torch works with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _judge(
    prepared: Prepared,
    place: Path | None,
    work: Path | None,
    progress: bool | None,
    stop: Callable[[], int] | None,
    say: Callable[[str], None],
) -> Audit:
    import torch

    from turnover.auditing import tables
    from turnover.auditing.duplicates import duplicates
    from turnover.auditing.evidence import gather
    from turnover.auditing.influences import influence_table
    from turnover.auditing.suspicion import suspect, together

    inputs, settings, seconds = prepared.inputs, prepared.settings, prepared.seconds
    labels = torch.from_numpy(inputs.labels)
    expected = _expected(prepared)
    say(
        f"training a small network once, {settings.epochs} epochs on {settings.device} with {settings.threads} "
        f"threads: about {_duration(expected)}"
    )
    clock = time.monotonic()
    evidence = gather(
        prepared.data, labels, len(inputs.classes), settings, progress=progress, stop=stop,
        checkpoint=None if work is None else work / f"training-{_identity(prepared)[:16]}",
    )  # fmt: skip
    seconds["training"], clock = time.monotonic() - clock, time.monotonic()
    judged = together(*evidence.witnesses)
    found = suspect(judged, labels)
    pairs = duplicates(prepared.data)
    mistakes = tables.mistakes_of(inputs, judged, found, settings.mistakes)
    result = Audit(
        labels=tables.labels_table(inputs, found),
        memorized=tables.memorized_table(inputs, evidence),
        influence=influence_table(inputs, prepared.data, evidence, mistakes),
        duplicates=tables.duplicates_table(inputs, pairs),
        outliers=tables.outliers_table(inputs, evidence),
        classes=tables.classes_table(inputs, found),
        summary=tables.summary_of(inputs, evidence, found, pairs),
        notices=prepared.notices,
        folder=place,
    )
    seconds["judging"] = time.monotonic() - clock
    suspects = result.summary["suspects"]
    listed = f"{suspects} are suspects, of which about one in ten is right" if suspects else "none is sure to be"
    say(f"about {result.summary['wrong_labels']:.0f} labels are wrong; {listed}")
    if work is not None:
        _write(prepared, result, evidence, found, judged, work / "new")
    return result


def _write(prepared: Prepared, result: Audit, evidence: Any, found: Any, judged: Tensor, folder: Path) -> None:
    """All files of an audit into the new folder `folder`. Raises `OSError`."""
    from turnover.auditing.exploration import explorer_of
    from turnover.auditing.networks import save_network
    from turnover.auditing.page import page
    from turnover.exploring.writing import write_explorer

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in TABLES:
        getattr(result, name).to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    if prepared.refused:
        import pandas as pd

        pd.DataFrame({"refused": prepared.refused}).to_csv(folder / "unreadable.csv", index=False, lineterminator="\n")
    about = about_of(prepared, result)
    save_network(evidence.network, {key: about[key] for key in ("classes", "input", "settings")}, folder)
    (folder / "report.html").write_text(page(prepared, result, evidence, found), encoding="utf-8")
    write_explorer(explorer_of(prepared, result, found, judged), folder / "explorer.html")
    write_json(folder / "seconds.json", {key: round(value, 2) for key, value in prepared.seconds.items()})
    write_json(folder / "audit.json", about)


def about_of(prepared: Prepared, result: Audit) -> dict[str, Any]:
    """What made the audit, and its numbers: the same for the same data, settings and machine."""
    import dataclasses

    settings = dataclasses.asdict(prepared.settings)
    return {
        "data": prepared.inputs.place,
        "reading": prepared.reading,
        "fingerprint": prepared.fingerprint,
        "input": list(prepared.data.shape[1:]),
        "classes": list(prepared.inputs.classes),
        "summary": dict(result.summary),
        "notices": list(result.notices),
        "settings": settings,
        "versions": _versions(),
    }


def _identity(prepared: Prepared) -> str:
    """Of what decides the course of the training: another one does not go on from its checkpoint."""
    return hashlib.sha256(f"{prepared.fingerprint} {prepared.settings} {_versions()}".encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("turnover", "torch", "numpy", "pandas", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _expected(prepared: Prepared) -> float:
    """Seconds that the training takes, by some steps on a copy of the network."""
    import torch

    from turnover.auditing.evidence import config_of
    from turnover.auditing.networks import make_network
    from turnover.batches.examples import Examples
    from turnover.training.loop import train

    settings, device = prepared.settings, torch.device(prepared.settings.device)
    few = slice(0, min(len(prepared.data), _TRIED * settings.batch_size))
    labels = torch.from_numpy(prepared.inputs.labels)[few]
    network = make_network(prepared.data[few], len(prepared.inputs.classes), settings.hidden, settings.seed).to(device)
    examples = Examples(prepared.data[few], labels, torch.arange(len(labels))).to(device)
    import dataclasses

    once = dataclasses.replace(config_of(settings), epochs=1)
    train(network, examples, once, progress=False)
    clock = time.monotonic()
    train(network, examples, once, progress=False)
    each = (time.monotonic() - clock) / len(labels)
    return each * len(prepared.data) * settings.epochs * 1.4  # what is recorded after every epoch


def _kept(inputs: Inputs, readable: npt.NDArray[np.bool_]) -> Inputs:
    """The examples that could be read."""
    if readable.all():
        return inputs
    import dataclasses
    import itertools

    def some(values: Any) -> Any:
        return None if values is None else tuple(itertools.compress(values, readable))

    return dataclasses.replace(
        inputs, names=some(inputs.names), labels=inputs.labels[readable], splits=some(inputs.splits),
        rows=some(inputs.rows),
    )  # fmt: skip


def _splits_text(inputs: Inputs) -> str:
    if inputs.splits is None:
        return ""
    counts = {split: inputs.splits.count(split) for split in dict.fromkeys(inputs.splits)}
    return f" ({', '.join(f'{split} {count:,}' for split, count in sorted(counts.items()))})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
