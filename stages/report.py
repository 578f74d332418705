"""Write the report: one self-contained page, and the same in Markdown."""

from __future__ import annotations

from study.artefacts.files import writing
from study.context.stage import Stage, main
from study.report.content import read_content
from study.report.render import render_html, render_markdown


def run(stage: Stage) -> None:
    content = read_content(stage)
    for path, text in (
        ("reports/index.html", render_html(content)),
        ("reports/report.md", render_markdown(content)),
    ):
        with writing(stage.out(path)) as beside:
            beside.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(run, "report", doc=__doc__)
