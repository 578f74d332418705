"""The command `turnover`: `turnover audit PATH`, `turnover explore FOLDER`."""

# Annotations are evaluated where they stand: typer reads them, and is imported only when the command runs.
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from turnover.errors import UserError
from turnover.interruption import Interrupted, stop_on_signals

EXAMPLES = """Find the wrong labels, and the memorized, influential and duplicate examples, of labelled data.

PATH is a folder of class folders (cat/1.png, or train/cat/1.png), a table of paths and labels (csv, tsv, jsonl, parquet), or embeddings with labels (npz, parquet, or npy with --labels).

A small network is trained once; every example is judged by what was learned from the others. The folder of the audit holds report.html, labels.csv and more. Interrupted, the same command goes on.

Examples:

  turnover audit photos/

  turnover audit photos.csv --path-column file --label-column species

  turnover audit embeddings.npy --labels labels.csv --out audits/first
"""  # noqa: E501

EXPLORING = """Look at an audit in the browser, and ask about new images.

FOLDER is what `turnover audit` wrote. Its explorer is served to this machine alone; an image dropped on it is answered by the prediction and the training examples that spoke most for it and against it.

The images that were audited are read again, and must be there.

Example:

  turnover explore audit/
"""  # noqa: E501


def main() -> None:
    """What the console script runs: errors are one sentence, Ctrl-C saves."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin cost a busy machine minutes
    try:
        import typer
    except ImportError:
        sys.exit("error: the command needs typer; install it by pip install 'turnover[audit]'")
    app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_nothing)
    app.command("audit", help=EXAMPLES)(_audit(typer))
    app.command("explore", help=EXPLORING)(_explore(typer))
    app()


def _nothing() -> None:
    """Which training examples a network memorized, and which labels are wrong."""


def _audit(typer: Any) -> Any:
    option = typer.Option

    def audit(
        path: Annotated[Path, typer.Argument(help="Folder, table or embeddings.")],
        out: Annotated[Path, option(help="The folder to write.")] = Path("audit"),
        labels: Annotated[Path | None, option(help="Labels of an npy file: npy, or a table.")] = None,
        path_column: Annotated[str | None, option(help="The column of paths, if not found by its name.")] = None,
        label_column: Annotated[str | None, option(help="The column of labels.")] = None,
        split_column: Annotated[str | None, option(help="The column of splits.")] = None,
        outside: Annotated[bool, option("--outside", help="Read images outside of the folder, too.")] = False,
        epochs: Annotated[int | None, option(help="Passes over the examples.")] = None,
        batch_size: Annotated[int | None, option(help="Examples a step.")] = None,
        learning_rate: Annotated[float | None, option(help="Its peak.")] = None,
        hidden: Annotated[int | None, option(help="Masked units before the classes.")] = None,
        side: Annotated[int | None, option(help="Pixels: images are made squares of this side.")] = None,
        seed: Annotated[int | None, option(help="Of weights, masks and order.")] = None,
        threads: Annotated[int | None, option(help="Of the processor.")] = None,
        device: Annotated[str | None, option(help="cpu, cuda or mps.")] = None,
        suspects: Annotated[int | None, option(help="On the page, at most.")] = None,
        mistakes: Annotated[int | None, option(help="Whose influences are computed, at most.")] = None,
    ) -> None:
        from turnover.auditing.audits import audit as run

        given: dict[str, Any] = {
            "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "hidden": hidden, "side": side,
            "seed": seed, "threads": threads, "device": device, "suspects": suspects, "mistakes": mistakes,
        }  # fmt: skip
        named = {"path": path_column, "label": label_column, "split": split_column}
        columns = {kind: name for kind, name in named.items() if name is not None}
        try:
            with stop_on_signals() as stop:
                run(
                    path, labels, out=out, columns=columns, outside=outside, say=print, stop=stop,
                    **{name: value for name, value in given.items() if value is not None},
                )  # fmt: skip
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        except Interrupted as stopped:
            print(f"stopped: {stopped}", file=sys.stderr)
            raise typer.Exit(128 + stopped.number) from None

    return audit


def _explore(typer: Any) -> Any:
    option = typer.Option

    def explore(
        folder: Annotated[Path, typer.Argument(help="The folder of an audit.")],
        data: Annotated[Path | None, option(help="Where the images are now, if not where they were.")] = None,
        host: Annotated[str, option(help="Another address to listen at: then others reach it.")] = "127.0.0.1",
        port: Annotated[int | None, option(help="8600, or another that is free.")] = None,
        threads: Annotated[int | None, option(help="Of the processor.")] = None,
        no_browser: Annotated[bool, option("--no-browser", help="Only print the address.")] = False,
    ) -> None:
        import torch

        from turnover.auditing.opening import open_audit
        from turnover.serving.server import serve

        if threads is not None:
            torch.set_num_threads(max(1, threads))
        try:
            page, trained = open_audit(folder, data, say=_say)
            serve(page, trained, host=host, port=port, browser=not no_browser, say=_say)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None

    return explore


def _say(line: str) -> None:
    print(line, flush=True)  # who waits for the address reads a pipe


if __name__ == "__main__":
    main()
