"""Stage `figures` on a make-believe study: right data, the same bytes each time, nothing left behind."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from PIL import Image

from stages import figures, findings, report, summarize
from study.analysis.variants import levels
from study.context.runs import load_params
from study.context.stage import run_stage
from study.data.scenarios.scenario import load_scenario
from study.figures.names import drawn_name
from study.figures.style import NARROW, WIDTH, Label, draw_grid, number_clips, save, styled
from study.figures.validation import SHOWN, points
from study.figures.variants import draw_variants
from tests.unit.study.fake_runs import SEEDS, make_results, own_results

DPI = 50  # as fake_runs has it


def _bytes(root: Path) -> dict[str, bytes]:
    folders = ("figures", "metrics/findings")
    files = [path for folder in folders for path in (root / "reports" / folder).iterdir()]
    files += [root / f"reports/{name}" for name in ("metrics/summary.json", "metrics/findings.json", "headline.json")]
    files += [root / f"reports/{name}" for name in ("index.html", "report.md")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_second_run_writes_the_same_bytes_and_leaves_nothing_beside(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, ignore=shutil.ignore_patterns("figures", "findings"), dirs_exist_ok=True)
    for name in ("metrics/summary.json", "metrics/findings.json", "headline.json", "index.html", "report.md"):
        (tmp_path / "reports" / name).unlink()
    assert _bytes(make_results(tmp_path)) == _bytes(results)
    assert not [path for path in (tmp_path / "reports").rglob("*") if path.name.startswith(".")]


def test_figures_come_as_svg_and_png_with_their_data(results: Path) -> None:
    folder = results / "reports/figures"
    findings = ("finding-1", "finding-2")
    others = (
        "effects",
        "learning-time",
        "speed",
        "gradients",
        "removal",
        "cleansing",
        "influence-by-decile",
        "curves-mixed-head",
        "memorization-real",
        "memorization-over-training",
        "detection-mixed",
        "cost",
        "validation-validation",
        "variants",
    )
    for name in (*findings, *others):
        assert (folder / f"{name}.svg").stat().st_size < 150_000
        assert Image.open(folder / f"{name}.png").width == int((NARROW if name in findings else WIDTH) * DPI)
        assert len(pd.read_csv(folder / f"{name}.csv")) > 0
    assert not (folder / "detection-real.svg").exists()  # it has no wrong labels to detect


def test_the_first_finding_shows_what_happens_together(results: Path) -> None:
    """The own effect by hand, seed by seed: of the wrong labels alone, and beyond the placebos'."""
    table = pd.read_csv(results / "reports/figures/finding-1.csv")
    shown = table[(table["measure"] == "own effect") & (table["epoch"] == 1)]
    examples = load_scenario(results / "data/scenarios/mixed").examples.set_index("id")
    values = []
    for seed in SEEDS["head"]:
        frame = pd.read_parquet(results / f"runs/mixed/head/{seed}/dynamics.parquet").query("epoch == 1")
        of = examples.loc[frame["id"]]
        gap = (frame["loss_flipped"] - frame["loss_exposed"]).to_numpy(np.float64)
        wrong = ((of["split"] == "train") & of["is_random"] & (of["given"] != of["original"])).to_numpy()
        values.append(gap[wrong].mean() - gap[(of["split"] == "placebo").to_numpy()].mean())
    assert shown["group"].to_list() == ["wrongly labelled"]
    assert shown["mean"].item() == pytest.approx(np.mean(values), rel=1e-5)
    assert set(table.loc[table["measure"] == "accuracy", "group"]) == {"real", "wrongly labelled"}


def test_the_second_finding_shows_every_retrained_network(results: Path) -> None:
    table = pd.read_csv(results / "reports/figures/finding-2.csv")
    removal = pd.read_csv(results / "reports/metrics/removal.csv").query("scenario == 'real' and action == 'remove'")
    chosen = removal[removal["order"].str.startswith("balanced_")]
    for measure in ("heldout_loss", "heldout_accuracy"):
        of = table[table["measure"] == measure].set_index(["order", "seed"])["value"].sort_index()
        pd.testing.assert_series_equal(of, chosen.set_index(["order", "seed"])[measure].sort_index(), check_names=False)


def test_every_effect_is_in_the_forest_plot(results: Path) -> None:
    effects = pd.read_csv(results / "reports/metrics/findings/effects.csv").dropna(subset="mean")
    text = (results / "reports/figures/effects.svg").read_text(encoding="utf-8")
    for unit in effects["unit"].unique():
        assert re.search(rf">(retrained networks: )?{unit}<", text), unit
    assert len(pd.read_csv(results / "reports/figures/effects.csv")) == len(effects)


def test_variants_stand_in_the_order_of_their_values_around_the_default(results: Path) -> None:
    found = dict(levels(pd.read_csv(results / "reports/figures/variants.csv")))
    sizes = found["data.train"].drop_duplicates("at")[["value", "is_default"]].to_numpy().tolist()
    assert sizes == [[30, False], [60, True], [120, False]]
    noise = found["labels.noise.mixed"]
    assert "tell_more" not in set(noise["effect"]), "no variant of these asked that"
    text = (results / "reports/figures/variants.svg").read_text(encoding="utf-8")
    for words in ("share of", "training", "25 %", "40 %", "120", "as in params.yaml"):
        assert f">{words}<" in text, words
    assert text.count(">not run<") == 2


def test_a_variant_of_one_seed_and_a_setting_without_a_name_are_drawn(results: Path, tmp_path: Path) -> None:
    table = pd.read_csv(results / "reports/figures/variants.csv").replace("data.train", "training.epochs")
    table = table[table["variant"] == "small"].assign(low=np.nan, high=np.nan, seeds=1)
    table[[column for column in table if column.startswith("default_") and column != "default_value"]] = np.nan
    with styled():
        draw_variants(table, load_params(results).figures, tmp_path)
    text = (tmp_path / "variants.svg").read_text(encoding="utf-8")
    assert ">training.epochs<" in text and "one seed a variant" in text


def test_held_out_curves_stand_beside_those_of_training(results: Path) -> None:
    table = pd.read_csv(results / "reports/figures/curves-mixed-head.csv")
    shown = table[(table["group"] == "held-out") & (table["epoch"] == 2)].set_index("measure")
    curves = [pd.read_csv(results / f"runs/mixed/head/{seed}/curve.csv").set_index("epoch") for seed in SEEDS["head"]]
    assert set(shown["network"]) == {"full"}
    for measure in ("loss", "accuracy"):
        expected = np.mean([curve.loc[2, f"heldout_{measure}"] for curve in curves])
        assert shown.loc[measure, "mean"] == pytest.approx(expected)


def test_points_of_the_validation_figure_have_a_cost_and_a_score() -> None:
    table = pd.DataFrame(
        {
            "method": ["a", "a", "free"],
            "family": ["peer", "peer", "control"],
            "networks": [1, 4, 0],
            "seconds": [2.5, 10.0, 0.0],
            **{f"lds{end}": [0.1, 0.2, 0.3] for end in ("", "_low", "_high")},
            **{f"memorization{end}": [None, 0.7, None] for end in ("", "_low", "_high")},
        }
    )
    others = table.head(1).assign(method="left-out, ordinary dropout", family="ablation")
    shown = table.head(1).assign(method=SHOWN[0], family="ablation", networks=2)
    assert points(pd.concat([others, shown]))["networks"].tolist() == [2]
    found = points(table)
    assert found[["figure", "networks", "seconds", "value"]].to_numpy().tolist() == [
        ["lds", 1, 2.5, 0.1],
        ["lds", 4, 10.0, 0.2],
        ["memorization", 4, 10.0, 0.7],
    ]


def test_clip_paths_are_called_by_their_number() -> None:
    """And each use keeps its own."""
    old = '<g clip-path="url(#p00a1b2c3d4)"/><g clip-path="url(#pffffffffff)"/><use clip-path="url(#p00a1b2c3d4)"/>'
    defined = '<clipPath id="p00a1b2c3d4"/><clipPath id="pffffffffff"/>'
    new = '<g clip-path="url(#clip-1)"/><g clip-path="url(#clip-2)"/><use clip-path="url(#clip-1)"/>'
    assert number_clips(old + defined) == new + '<clipPath id="clip-1"/><clipPath id="clip-2"/>'


def test_the_same_figure_whatever_the_last_bits_of_its_layout(tmp_path: Path) -> None:
    def panel(axes: Axes, _row: str, _column: str) -> tuple[Label, ...]:
        axes.plot([0, 1], [0, 1])
        return ()

    texts = []
    for shift in (0.0, 1e-13):
        with styled():
            figure = draw_grid({"": ""}, {"": ""}, 2.0, panel)
            figure.set_layout_engine("none")
            box = figure.axes[0].get_position()
            figure.axes[0].set_position((box.x0 + shift, box.y0, box.width, box.height))
            figure.set_layout_engine(PlaceHolderLayoutEngine(True, True))
            save(figure, "", tmp_path, "plot", 50, pd.DataFrame())
        texts.append((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert "clip-1" in texts[0]
    assert texts[0] == texts[1]


def test_numbers_in_labels_keep_their_digits(tmp_path: Path) -> None:
    def panel(axes: Axes, _row: str, _column: str) -> tuple[Label, ...]:
        axes.plot([0, 1], [0.8249, 0.8251])
        axes.set_yticks([0.825], ["0.825"])
        return ()

    with styled():
        save(draw_grid({"": ""}, {"": ""}, 2.0, panel), "", tmp_path, "plot", 50, pd.DataFrame())
    text = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert ">0.825</text>" in text
    assert not re.search(r'd="M [\d.]*\.\d{3}', text)


def test_one_s_own_data_have_suspects_and_known_data_have_none(results: Path, tmp_path: Path) -> None:
    assert not (results / "reports/figures/suspects.csv").exists()
    root = own_results(results, tmp_path)
    table = pd.read_csv(root / "reports/figures/suspects.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6], "a tenth of 60 training examples"
    assert set(table["scenario"]) == {"real"} and not table["differs"].any()
    runs = [
        pd.read_parquet(root / f"scores/real/head/{seed}/memorization.parquet").set_index("id")
        for seed in SEEDS["head"]
    ]
    mean = (sum(run["support"] for run in runs) / len(runs)).dropna().sort_values()
    assert table["id"].tolist() == mean.index[:6].tolist()
    np.testing.assert_allclose(table["support"], mean[:6], rtol=1e-5)
    assert table["name"].tolist() == [f"photos/{number}.png" for number in table["id"]]
    sheet = np.asarray(Image.open(root / "reports/figures/suspects-sprites.png"))
    images = np.load(root / "data/scenarios/real/images.npy")
    assert np.array_equal(sheet.reshape(len(table), 8, 8), images[table["id"], 0])


def test_names_whose_letters_the_font_lacks_are_numbers(results: Path, tmp_path: Path) -> None:
    assert [drawn_name(name, 7) for name in ("T-shirt", "Straße", "кот", "$x$", "")] == [
        "T-shirt", "Straße", "кот", "$x$", "",
    ]  # fmt: skip
    assert [drawn_name(name, 7) for name in ("猫", "a 猫", "🐈")] == ["class 7"] * 3
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "data/scenarios").glob("*/scenario.json"):
        path.write_text(path.read_text(encoding="utf-8").replace('"hat"', '"猫"'), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that is missing
        for stage in (figures, report):
            assert run_stage(stage.run, stage.__name__.removeprefix("stages."), {}, root=tmp_path) == 0
    text = (tmp_path / "reports/report.md").read_text(encoding="utf-8")
    assert "\n\nIn the pictures class 1 is 猫.\n\n" in text
    assert "In the pictures" not in (results / "reports/report.md").read_text(encoding="utf-8")


def test_images_stand_in_the_order_of_their_table(results: Path) -> None:
    folder = results / "reports/figures"
    images = np.load(results / "data/scenarios/mixed/images.npy")
    for name in ("gallery", "mistakes"):
        table = pd.read_csv(folder / f"{name}.csv")
        sheet = np.asarray(Image.open(folder / f"{name}-sprites.png"))
        assert np.array_equal(sheet.reshape(len(table), 8, 8), images[table["id"], 0])
    mistakes = pd.read_csv(folder / "mistakes.csv")
    assert mistakes["kind"].value_counts().to_dict() == {"helpful": 6, "harmful": 6, "mistake": 2}
    assert mistakes.loc[mistakes["kind"] == "helpful", "influence"].min() > 0
    losses = mistakes.loc[mistakes["kind"] == "mistake", "influence"]
    assert losses.is_monotonic_decreasing


def test_class_names_are_words_also_between_dollar_signs(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "data/scenarios").glob("*/scenario.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        about["classes"] = ["$$", r"$\foo$", "$5 and $6"]
        path.write_text(json.dumps(about), encoding="utf-8")
    assert run_stage(figures.run, "figures", {}, root=tmp_path) == 0
    table = pd.read_csv(tmp_path / "reports/figures/gallery.csv")
    assert table["given_name"].str.contains("$", regex=False).any()


def test_a_missing_table_is_one_clear_sentence(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "study"
    shutil.copytree(results, root, ignore=shutil.ignore_patterns("figures"))

    def says(stage: str) -> str:
        body = {"figures": figures.run, "findings": findings.run, "summarize": summarize.run}[stage]
        assert run_stage(body, stage, {}, root=root) == 1
        return capsys.readouterr().err

    for stage, path, broken in (
        ("figures", "scores/real/head/1/memorization.parquet", b"PAR1 not really"),
        ("figures", "runs/real/head/1/curve.csv", b"epoch"),
        ("findings", "scores/real/head/1/influence/totals.parquet", b""),
        ("findings", "runs/real/head/0/dynamics.parquet", b"PAR1 not really"),
        ("findings", "runs/real/head/1/gradients.safetensors", b""),  # what a full disk leaves
        ("findings", "runs/real/head/1/gradients.safetensors", b"not really"),
        ("summarize", "scores/real/head/1/metrics.json", b"{"),
    ):
        whole = (root / path).read_bytes()
        (root / path).write_bytes(broken)
        assert f"{path} is corrupt" in says(stage)
        (root / path).unlink()
        assert f"{path} is missing" in says(stage)
        (root / path).write_bytes(whole)
    table = pd.read_csv(root / "reports/metrics/removal.csv")
    table.drop(columns="order").to_csv(root / "reports/metrics/removal.csv", index=False)
    assert "removal.csv lacks the column 'order'" in says("findings")
    assert not (root / "reports/figures").exists()
