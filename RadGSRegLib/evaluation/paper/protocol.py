"""The whole protocol: run, summarise, write tables, plots and panels into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cases import software_versions, write_json
from ...errors import InputError
from ...system.progress import Progress
from ..protocol import find_cases
from . import compare, models, panels, plots, tables
from .answers import Method
from .methods import BUILT_IN, built_in_methods
from .run import CaseAnswers, Runs, run_methods
from .starts import Start

PANELS = 6


@dataclass(frozen=True)
class PaperOptions:
    """What to compare. ``methods``: keys, or none for all; ``models``: as ``--model`` has them;
    ``draws``: further starts per case; ``pictured``: how many cases get their panels."""

    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    start: Start = "center"
    draws: int = 0
    effort: str = "normal"
    seed: int = 0
    device: str = "cpu"
    pictured: int = PANELS


@dataclass(frozen=True)
class PaperResult:
    """``text``: the tables as Markdown; ``summaries`` of all methods; what went into them."""

    text: str
    summaries: tuple[compare.Summary, ...]
    runs: Runs
    reference: str | None


def choose_methods(options: PaperOptions, cases: Sequence[str]) -> list[Method]:
    """The methods asked for, in the order of the tables; with none named, all that can work.

    Raises InputError for a name that is none, and for models that cannot be used.
    """
    sources = models.model_sources(list(options.models))
    known = [*BUILT_IN]
    for source in sources:
        known += [source.name + kind for kind in ("", models.FITTED, models.REFINED)]
    for key in options.methods:
        if key not in known:
            raise InputError("--methods", f"'{key}' is unknown", f"there are {', '.join(known)}")
    models.check_models(sources, list(cases), options.device)
    found = built_in_methods(options.effort, seed=options.seed, device=options.device)
    for source in sources:
        found += models.model_methods(source, options.effort, options.device)
    if options.methods:
        return [method for method in found if method.key in options.methods]
    return [m for m in found if options.start != "none" or not m.needs_start]


def reference_of(methods: Sequence[Method]) -> str | None:
    """What the others are tested against: the first model refined, else the first model, else ours
    without training."""
    refined = [m.key for m in methods if m.key.endswith(models.REFINED)]
    alone = [m.key for m in methods if m.group == "model"]
    ours = [m.key for m in methods if m.group == "ours"]
    return next(iter([*refined, *alone, *ours]), None)


def write_paper(
    folder: Path, stage: Path, options: PaperOptions, progress: Progress | None = None
) -> PaperResult:
    """Run the protocol on the cases of ``folder`` and write all its files into ``stage``.

    Use it inside a `cases.OutputFolder`, so that they appear together. Raises InputError before
    any work for what cannot be used, and Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    cases = [path.resolve().name for path in find_cases(folder)]
    methods = choose_methods(options, cases)
    stems = panels.panel_names(cases)
    pictured: list[str] = []

    def draw(found: CaseAnswers) -> None:
        if len(pictured) < options.pictured:
            pictured.append(found.task.name)
            for kind, png in panels.case_panels(found).items():
                (stage / f"{kind}_{stems[found.task.name]}.png").write_bytes(png)

    runs = run_methods(
        folder,
        methods,
        start=options.start,
        draws=options.draws,
        seed=options.seed,
        progress=report.part(0.0, 0.98),
        seen=draw,
    )
    report(0.98, "writing tables and plots")
    reference = reference_of(methods)
    summaries = compare.summarize(runs.rows, methods, reference)
    first, second = _split(summaries, methods)
    text = _page(first, second, summaries, methods, reference, options)
    (stage / "paper.md").write_text(text, encoding="utf-8")
    (stage / "table1.csv").write_text(tables.table_csv(first), encoding="utf-8")
    if second:
        (stage / "table2.csv").write_text(tables.table_csv(second), encoding="utf-8")
    (stage / "runs.csv").write_text(tables.rows_csv(runs.rows), encoding="utf-8")
    write_json(_content(runs, summaries, methods, reference, options), stage / "paper.json")
    for name, png in plots.all_plots(runs, methods).items():
        (stage / name).write_bytes(png)
    return PaperResult(text, tuple(summaries), runs, reference)


def _split(
    summaries: Sequence[compare.Summary], methods: Sequence[Method]
) -> tuple[list[compare.Summary], list[compare.Summary]]:
    """Table 1: rivals, ours and the first model; table 2: all models, if there are any."""
    keys = [m.key for m in methods if m.group == "model"]
    first_name = models.own_name(keys[0]) if keys else ""
    others = {key for key in keys if models.own_name(key) != first_name}
    first = [s for s in summaries if s.method not in others]
    return first, [s for s in summaries if s.method in keys]


def _page(
    first: Sequence[compare.Summary],
    second: Sequence[compare.Summary],
    summaries: Sequence[compare.Summary],
    methods: Sequence[Method],
    reference: str | None,
    options: PaperOptions,
) -> str:
    label = next((m.label for m in methods if m.key == reference), "")
    starts = {
        "center": "the clicks, with the CT's axes along the world's",
        "start": "start.json",
        "none": "nothing",
    }[options.start]
    drawn = f", and from {options.draws} drawn starts each for CR" if options.draws else ""
    cases = max((s.cases for s in summaries), default=0)
    lines = [
        "# Comparison after the paper's protocol",
        "",
        f"{cases} case{'' if cases == 1 else 's'}, from {starts}{drawn}; seed {options.seed}, "
        f"effort {options.effort}. Mean ± standard deviation over the cases; CR over all runs; RT "
        "and reconstruction: median seconds of warm runs.",
        "",
        "## Table 1: methods",
        "",
        tables.table_markdown(first),
    ]
    lines += ["## Table 2: models", ""]
    if second:
        lines.append(tables.table_markdown(second))
    else:
        lines += ["No model was given (`--model NAME=PATH`).", ""]
    if reference is not None and any(s.tests for s in summaries):
        lines += [
            "## Paired tests",
            "",
            f"Against *{label}*, case by case. An asterisk in the tables: p < 0.05 by Wilcoxon's "
            "signed-rank test (two-sided, scipy.stats). The paper does not name its test; "
            "Student's paired t-test stands beside it. Nothing is corrected for the number of "
            "comparisons. With fewer than six pairs Wilcoxon's p cannot fall below 0.05.",
            "",
            tables.tests_markdown(summaries),
        ]
    lines.append("What every number means: docs/evaluation.md.")
    return "\n".join(lines) + "\n"


def _content(
    runs: Runs,
    summaries: Sequence[compare.Summary],
    methods: Sequence[Method],
    reference: str | None,
    options: PaperOptions,
) -> dict[str, Any]:
    """What ``paper.json`` holds; `cases.write_json` makes NaN null."""
    return {
        "schema": "radgsreg/paper",
        "version": 1,
        "reference": reference,
        "test": "wilcoxon signed-rank, two-sided (scipy.stats.wilcoxon)",
        "methods": [
            {"key": m.key, "label": m.label, "group": m.group, "facts": dict(m.facts)}
            for m in methods
        ],
        "summaries": [s.to_json() for s in summaries],
        "runs": [row.to_json() for row in runs.rows],
        "curves": [vars(curve) for curve in runs.curves],
        "software": software_versions(),
        "parameters": {
            "seed": options.seed,
            "start": options.start,
            "draws": options.draws,
            "effort": options.effort,
            "device": options.device,
        },
    }
