"""The paper's protocol: numbers of the tables against the runs they come from, starts, refusals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ball import CENTRE_CT, POSE, START, write_ball
from network_scenes import tiny_model
from PIL import Image
from scipy import stats

from RadGSRegLib import cli
from RadGSRegLib.drr import excess_attenuation
from RadGSRegLib.errors import Cancelled, InputError
from RadGSRegLib.evaluation import (
    CaseAnswers,
    Row,
    RunOptions,
    Runs,
    Yardstick,
    drawn_tasks,
    own_task,
    paired_test,
    panels,
    plots,
    read_truth,
    reports,
    run_methods,
    starts,
    summarize,
    tables,
)
from RadGSRegLib.geometry import Volume, compose_about, exp_se3
from RadGSRegLib.measures import centre_error_mm, rotation_error_deg
from RadGSRegLib.methods import (
    ENTRIES,
    OURS,
    About,
    Answer,
    Attention,
    FunctionMethod,
    Method,
    Settings,
    Task,
    choose_methods,
    learned,
)
from RadGSRegLib.networks import save_model
from RadGSRegLib.report import unlike_stems
from RadGSRegLib.system import Progress

SHIFTS = {"a": 0.4, "b": 1.1, "c": 3.0}


def excess_of(task: Task) -> Volume:
    """The vertebra of a task's CT."""
    case = task.needed_case()
    return excess_attenuation(case.ct, case.labels, case.label)


def yardstick_of(folder: Path) -> Yardstick:
    """What answers about case "a" are held against."""
    task = own_task(folder / "a", "center", 0)
    return Yardstick(task.needed_case(), read_truth(folder / "a" / "truth.json"))


def row(case: str, method: str, run: int, start_mm: float, error_mm: float) -> Row:
    """One run that took a second."""
    errors = {"mtre_mm": error_mm, "rotation_error_deg": 0.0}
    return Row(case, "", method, run=run, start_mtre_mm=start_mm, registration_s=1.0, **errors)


def shifted(offset: float, key: str = "fake", group: str = "baseline") -> Method:
    """A method whose pose is off by `SHIFTS` times ``offset``, and its volume with it."""

    def solve(task: Task) -> Answer:
        pose = compose_about(POSE, [0, 0, 0, offset * SHIFTS[task.name], 0, 0], CENTRE_CT)
        task.progress.pose(compose_about(pose, [0, 0, 0, 1.0, 0, 0], CENTRE_CT))
        excess = excess_of(task)
        volume = Volume(5.0 * excess.array + 0.3, pose @ excess.index_to_physical)
        return Answer(pose, 2.0, volume, reconstruction_s=0.5, status="ok")

    return FunctionMethod(About(key, f"the {key}", group), solve)  # type: ignore[arg-type]


def refuse(task: Task) -> Answer:
    raise InputError(task.name, "shows nothing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cases")
    for name in SHIFTS:
        write_ball(path / name)
    return path


@pytest.fixture(scope="module")
def methods() -> list[Method]:
    broken = FunctionMethod(About("broken", "broken", "baseline", reconstructs=False), refuse)
    return [shifted(1.0), broken, shifted(0.5, "own", "ours")]


@pytest.fixture(scope="module")
def runs(folder: Path, methods: list[Method]) -> Runs:
    return run_methods(folder, methods)


def of(rows: Sequence[Row], key: str) -> list[Row]:
    return [row for row in rows if row.method == key]


def test_runs_hold_the_contracts_metrics(runs: Runs, folder: Path) -> None:
    fake = of(runs.rows, "fake")
    assert [row.case for row in fake] == ["a", "b", "c"]
    # A pure shift moves every point by as much.
    assert [row.mtre_mm for row in fake] == pytest.approx(list(SHIFTS.values()))
    assert [row.rotation_error_deg for row in fake] == pytest.approx([0.0] * 3, abs=1e-5)
    assert [row.is_warm for row in fake] == [False, True, True]
    task, yardstick = own_task(folder / "a", "center", 0), yardstick_of(folder)
    assert fake[0].start_mtre_mm == pytest.approx(yardstick.mtre(task.start))  # type: ignore[arg-type]
    # The farther off, the less alike.
    ssim = [float(row.ssim or 0.0) for row in fake]
    assert ssim[0] > ssim[1] > ssim[2]
    assert all(row.problem == "a: shows nothing" for row in of(runs.rows, "broken")[:1])
    assert {row.mtre_mm for row in of(runs.rows, "broken")} == {None}


def test_a_perfect_reconstruction_scores_alike_whatever_its_grid_and_scale(folder: Path) -> None:
    task, yardstick = own_task(folder / "a", "center", 0), yardstick_of(folder)
    excess = excess_of(task)
    perfect = Volume(excess.array, POSE @ excess.index_to_physical)
    same = yardstick.similarity(perfect)
    assert same["ssim"] > 0.999
    scaled = yardstick.similarity(Volume(7.0 * excess.array, perfect.index_to_physical))
    assert scaled["ssim"] == pytest.approx(same["ssim"], rel=1e-3)
    assert min(scaled["psnr_db"], same["psnr_db"]) > 60.0
    nothing = yardstick.similarity(Volume(np.zeros((4, 4, 4), np.float32), exp_se3([0] * 6)))
    assert nothing["ssim"] < 0.8 * same["ssim"]


def test_the_tables_numbers_are_those_of_the_runs(runs: Runs, methods: list[Method]) -> None:
    fake, broken, own = summarize(runs.rows, [m.about for m in methods], "own")
    errors = np.array(list(SHIFTS.values()))
    assert fake.mtre_mm is not None
    assert fake.mtre_mm["mean"] == pytest.approx(1.5)
    assert fake.mtre_mm["std"] == pytest.approx(errors.std(ddof=1))
    assert fake.sr == pytest.approx(2 / 3)
    assert fake.smsr == pytest.approx(1 / 3)
    assert fake.silent_failures == 1
    assert own.sr == 1.0
    ssim = [float(row.ssim or 0.0) for row in of(runs.rows, "fake")]
    assert fake.ssim is not None
    assert fake.ssim["mean"] == pytest.approx(np.mean(ssim))
    # A case without an answer is a failure, and there is no mean of nothing.
    assert (broken.sr, broken.failed, broken.ssim) == (0.0, 3, None)
    text = tables.methods_markdown([fake, broken, own])
    rows = [line for line in text.splitlines() if line.startswith("| the ")]
    assert f"| {100 * np.mean(ssim):.2f} ± {100 * np.std(ssim, ddof=1):.2f} |" in rows[0]
    assert f"| 1.50 ± {errors.std(ddof=1):.2f} |" in rows[0]
    assert "| **0.75 ±" in rows[1]
    assert "| 66.67 |" in rows[0]
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines()}) == 1
    read = {row["method"]: row for row in csv.DictReader(io.StringIO(tables.summaries_csv([fake])))}
    assert float(read["fake"]["mtre_mm_mean"]) == pytest.approx(1.5)
    assert float(read["fake"]["rt_s_median"]) == pytest.approx(2.0)
    again = list(csv.DictReader(io.StringIO(tables.rows_csv(runs.rows, tables.RUN_COLUMNS))))
    assert [float(r["mtre_mm"]) for r in again if r["method"] == "own"] == pytest.approx(
        [0.5 * e for e in errors]
    )


def test_the_paired_test_is_scipys_on_whole_pairs() -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(1.0, 0.3, 9)
    b = a + rng.normal(0.4, 0.2, 9)
    test = paired_test([*a, np.nan, 3.0], [*b, 1.0, np.inf])
    assert test.pairs == 9
    assert test.difference == pytest.approx(float(np.mean(a - b)))
    assert test.wilcoxon_p == pytest.approx(float(stats.wilcoxon(a, b).pvalue))
    assert test.t_p == pytest.approx(float(stats.ttest_rel(a, b).pvalue))
    assert test.is_significant
    # All six differences have one sign: 2 of 2^6 arrangements are as extreme.
    assert paired_test(np.arange(6.0) + 1, np.zeros(6)).wilcoxon_p == 2 / 64
    assert paired_test(np.arange(5.0) + 1, np.zeros(5)).wilcoxon_p == 2 / 32
    assert paired_test([1.0, 2.0], [1.0, 2.0]).wilcoxon_p == 1.0
    assert np.isnan(paired_test([1.0], [2.0]).wilcoxon_p)


def test_asterisks_stand_where_wilcoxon_says_so() -> None:
    worse = [
        row(f"{n}", key, 0, 5.0, 1.0 + extra * (n + 1))
        for n in range(6)
        for key, extra in (("far", 0.5), ("near", 0.0))
    ]
    pair = [shifted(1.0, "far").about, shifted(1.0, "near").about]
    far, near = summarize(worse, pair, "near")
    assert far.tests["mtre_mm"].is_significant
    assert not near.tests
    lines = tables.methods_markdown([far, near]).splitlines()
    assert "2.75 ± 0.94\\*" in lines[2]
    assert "\\*" not in lines[3]
    assert "| 0.031 |" in tables.tests_markdown([far, near])


def test_the_capture_range_takes_all_runs() -> None:
    rows = [
        row("a", "fake", run, begin, end)
        for run, (begin, end) in enumerate([(3.0, 0.5), (8.0, 1.9), (12.0, 2.1), (18.0, 0.5)])
    ]
    (summary,) = summarize(rows, [shifted(1.0).about])
    assert summary.cr_mm == 10.0
    assert summary.sr == 1.0  # of the case's own start alone
    assert "| **5-10** |" in tables.methods_markdown([summary])


def test_drawn_starts_are_fixed_graded_and_hide_the_clicks(folder: Path) -> None:
    own = own_task(folder / "a", "center", 7)
    tasks = drawn_tasks(own, POSE, 6)
    again = drawn_tasks(own, POSE, 6)
    assert all(np.array_equal(a.start, b.start) for a, b in zip(tasks, again, strict=True))
    other = drawn_tasks(own_task(folder / "b", "center", 7), POSE, 6)
    assert not np.allclose(tasks[0].start, other[0].start)  # type: ignore[arg-type]
    for number, task in enumerate(tasks):
        assert task.given is task.start
        assert not any(view.center_px for view in task.case.views)
        share = (number + 1) / 6
        turned = rotation_error_deg(task.start, POSE)  # type: ignore[arg-type]
        moved = centre_error_mm(CENTRE_CT, task.start, POSE)  # type: ignore[arg-type]
        assert turned <= share * starts.DRAWN_DEG * 3**0.5 + 1e-6
        assert moved <= share * starts.DRAWN_MM * 3**0.5 + 1e-6
    assert own.given is None
    assert all(view.center_px for view in own.case.views)


def test_starts_from_the_file_and_from_nothing(folder: Path) -> None:
    given = own_task(folder / "a", "start", 0)
    assert np.allclose(given.given, START)  # type: ignore[arg-type]
    nothing = own_task(folder / "a", "none", 0)
    assert (nothing.start, nothing.centre_world) == (None, None)
    assert not any(view.center_px for view in nothing.case.views)
    with pytest.raises(InputError, match="needs a start"):
        run_methods(folder, [shifted(1.0)], RunOptions("none"))


def test_draws_register_only_and_refusals_stop_nothing(folder: Path) -> None:
    asked: list[tuple[str, bool]] = []

    def solve(task: Task) -> Answer:
        asked.append((task.name, task.wants_volume))
        return Answer(POSE, 1.0)

    pose = FunctionMethod(About("one", "one", "baseline", reconstructs=False), solve)
    only = FunctionMethod(About("volume", "volume", "baseline", registers=False), refuse)
    runs = run_methods(folder / "a", [pose, only], RunOptions(draws=2))
    assert asked == [("a", True), ("a", False), ("a", False)]
    assert [(row.method, row.run) for row in runs.rows] == [
        ("one", 0),
        ("volume", 0),
        ("one", 1),
        ("one", 2),
    ]


def test_curves_begin_at_the_start_and_end_at_the_answer(runs: Runs) -> None:
    curve = next(c for c in runs.curves if (c.case, c.method) == ("b", "fake"))
    assert curve.seconds[0] == 0.0
    assert curve.seconds[-1] == 2.0
    assert curve.errors_mm[-1] == pytest.approx(1.1)
    assert curve.errors_mm[1] == pytest.approx(2.1)


def test_cancelling_stops_between_methods(folder: Path, methods: list[Method]) -> None:
    told: list[float] = []

    def asked(fraction: float, message: str) -> bool:
        told.append(fraction)
        return "2 of 3" not in message

    with pytest.raises(Cancelled):
        run_methods(folder, methods, progress=Progress(asked))
    assert told == sorted(told)


def test_plots_and_panels_are_pictures(folder: Path, methods: list[Method], runs: Runs) -> None:
    drawn = plots.method_plots(runs, [m.about for m in methods])
    assert set(drawn) == {
        "errors.png",
        "error_against_start.png",
        "convergence.png",
        "reconstructions.png",
    }
    assert drawn == plots.method_plots(runs, [m.about for m in methods])
    kinds: dict[str, bytes] = {}

    def look(case: CaseAnswers) -> None:
        crop = np.random.default_rng(0).random((32, 32)).astype(np.float32)
        maps = Attention(("AP", "LA"), (crop, crop), (crop[:4, :4], crop[:4, :4]))
        method, answer = case.answers[0]
        changed = ((method, replace(answer, attention=maps)), *case.answers[1:])
        kinds.update(panels.case_panels(replace(case, answers=changed)))

    run_methods(folder / "a", methods, on_case=look)
    assert set(kinds) == {"reconstruction", "registration", "attention"}
    for png in [*drawn.values(), *kinds.values()]:
        assert Image.open(io.BytesIO(png)).width > 300


def test_panels_of_cases_with_like_names_stay_apart() -> None:
    names = unlike_stems(["l3 a", "l3_a", "L3_A"])
    assert len({name.lower() for name in names}) == 3


MODELS = [
    ("", "no usable name"),
    ("=x", "no usable name"),
    ("a|b=x", "no usable name"),
    ("optimize=x", "taken"),
    ("m=no/such.safetensors", "does not exist"),
]


@pytest.mark.parametrize(("text", "why"), MODELS)
def test_model_arguments_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        learned.model_sources([text], ENTRIES)


def test_a_model_is_two_rows_and_a_folder_holds_one_per_case(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "each").mkdir()
    for name in ("a", "b"):
        save_model(tmp_path / "each" / f"{name}.safetensors", tiny_model(), {"data": "none"})
    one = tmp_path / "each" / "a.safetensors"
    fast = Settings("fast")
    chosen = choose_methods((), fast, models=(f"full={one}", str(one)), cases=["a"])
    abouts = [method.about for method in chosen]
    assert [about.key for about in abouts] == [
        *ENTRIES,
        "full",
        "full+fitted",
        "full+refined",
        "a",
        "a+fitted",
        "a+refined",
    ]
    assert abouts[-4].facts["card"] == {"data": "none"}
    assert reports.reference_of(abouts) == "full+refined"
    assert reports.reference_of(abouts[:5]) == OURS == "optimize"
    none = choose_methods((), fast, models=(str(one),), cases=["a"], has_start=False)
    assert [method.about.key for method in none] == ["a", "a+fitted", "a+refined"]
    with pytest.raises(InputError, match=r"c\.safetensors"):
        choose_methods((), fast, models=(f"each={one.parent}",), cases=["a", "b", "c"])
    with pytest.raises(InputError, match=r"there are start, voxels.*full\+refined"):
        choose_methods(("magic",), fast, models=(f"full={one}",), cases=["a"])


def test_efforts_scale_the_baselines_alike() -> None:
    fast, normal = (
        {m.about.key: m.about.facts for m in choose_methods((), Settings(effort))}
        for effort in ("fast", "normal")
    )
    assert fast["voxels"]["steps"] == round(0.4 * normal["voxels"]["steps"])
    assert fast["gaussians"]["fresh_steps"] == round(0.4 * normal["gaussians"]["fresh_steps"])
    assert [s["steps"] for s in fast["descent"]["scales"]] == [24, 16, 12]


def test_the_command_writes_everything_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The start and an untrained network, so that it is quick: both fail, and the tables say so."""
    folder = tmp_path / "cases"
    for name in ("a", "b"):
        write_ball(folder / name)
    weights = tmp_path / "tiny.safetensors"
    save_model(weights, tiny_model(), {"data": "none"})
    out = tmp_path / "out"
    words = ["evaluate", str(folder), "--protocol", "paper", "--methods", "start,tiny"]
    words += ["--model", str(weights), "--device", "cpu", "--out", str(out)]
    assert cli.main(words) == 0
    assert "2 methods on 2 cases" in capsys.readouterr().out
    content = json.loads((out / "paper.json").read_text(), parse_constant=pytest.fail)
    assert [s["method"] for s in content["summaries"]] == ["start", "tiny"]
    errors = [r["mtre_mm"] for r in content["runs"] if r["method"] == "start" and r["run"] == 0]
    assert content["summaries"][0]["mtre_mm"]["mean"] == pytest.approx(np.mean(errors))
    assert content["parameters"]["draws"] == 0
    page = (out / "paper.md").read_text(encoding="utf-8")
    assert f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}" in page
    assert "## Table 2" in page
    expected = {"table1.csv", "table2.csv", "runs.csv", "errors.png", "attention_a.png"}
    expected |= {"registration_b.png", "reconstruction_b.png"}
    assert expected <= {path.name for path in out.iterdir()}


REFUSED = [
    (["--model", "m=none.safetensors"], "--model"),
    (["--method", "m", "--model", "m=none.safetensors"], "none.safetensors"),
    (["--draws", "3"], "--draws"),
    (["--start", "none"], "--start none"),
    (["--effort", "fast"], "--effort"),
    (["--protocol", "paper", "--reconstruct"], "--reconstruct"),
    (["--protocol", "paper", "--methods", "magic"], "magic"),
    (["--protocol", "paper", "--methods", "voxels", "--start", "none"], "needs a start"),
    (["--protocol", "paper", "--model", "m=none.safetensors"], "none.safetensors"),
]


@pytest.mark.parametrize(("words", "mentions"), REFUSED, ids=lambda value: str(value)[:40])
def test_unusable_arguments_leave_nothing(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    mentions: str,
) -> None:
    out = tmp_path / "out"
    assert cli.main(["evaluate", str(folder), "--out", str(out), *words]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert mentions in said
    assert not any(tmp_path.iterdir())
