"""Write down every number that the report states of the runs, and the few that versions are compared by."""

from __future__ import annotations

from study.analysis.files import read_json, read_validations
from study.analysis.headline import headline
from study.analysis.inputs import read_study
from study.analysis.summary import summarize
from study.artefacts.files import write_json
from study.context.stage import Stage, main


def run(stage: Stage) -> None:
    settings = {key: stage.param(f"figures.{key}") for key in ("confidence", "difficulty_quantile", "neighbours")}
    summary = summarize(read_study(stage), **settings)
    write_json(stage.out("reports/metrics/summary.json"), summary)
    findings = read_json(stage, "reports/metrics/findings.json")
    write_json(stage.out("reports/headline.json"), headline(summary, findings, read_validations(stage)))


if __name__ == "__main__":
    main(run, "summarize", doc=__doc__)
