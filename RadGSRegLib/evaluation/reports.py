"""The two reports: one method case by case, and the paper's tables of many methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cases import software_versions, write_json
from ..errors import InputError
from ..methods import OURS, REFINED, About, Method, Settings, choose_methods, own_name
from ..report import unlike_stems
from ..system import Progress
from . import panels, plots, tables
from .one_view import OneView, one_view_parts
from .run import CaseAnswers, RunOptions, Runs, run_methods
from .starts import StartKind
from .summary import Summary, by_realism, summarize
from .truth import find_cases

PANELS = 6


@dataclass(frozen=True)
class EvaluationOptions:
    """What to evaluate. ``methods``: keys, or none for ours (`write_cases`) or all (`write_paper`);
    ``models``: as ``--model`` has them; ``draws``: further starts per case; ``reconstruct``:
    whether one method reconstructs too; ``pictured``: how many cases get their panels;
    ``one_view``: every view of a case is a case of its own (`write_cases`)."""

    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    start: StartKind = "center"
    draws: int = 0
    effort: str = "normal"
    seed: int = 0
    device: str = "cpu"
    reconstruct: bool = False
    pictured: int = PANELS
    one_view: bool = False

    def chosen(self, folder: Path, names: Sequence[str]) -> list[Method]:
        """Make the methods named, for ``folder``; InputError for what cannot be used."""
        return choose_methods(
            names,
            Settings(self.effort, self.seed, self.device),
            models=self.models,
            cases=[path.resolve().name for path in find_cases(folder)],
            has_start=self.start != "none",
        )


@dataclass(frozen=True)
class Report:
    """``text``: the tables as Markdown; ``summaries`` by their names; what went into them; what
    came of cases of one view."""

    text: str
    summaries: dict[str, Summary]
    runs: Runs
    reference: str | None = None
    one_view: OneView | None = None


def write_cases(
    folder: Path, stage: Path, options: EvaluationOptions, progress: Progress | None = None
) -> Report:
    """Run one method on the cases of ``folder`` and write tables and plots into ``stage``.

    The summaries are those of every realism and "all". Use it inside a `cases.OutputFolder`, so
    that all files appear together. Raises InputError before any work for what cannot be used, and
    Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    methods = options.chosen(folder, options.methods or (OURS,))
    if len(methods) != 1:
        raise InputError("--method", "names several", "name one, or use --protocol paper")
    about = methods[0].about
    if not about.registers:
        raise InputError("--method", f"'{about.key}' gives no pose", "use --protocol paper")
    if options.reconstruct and not about.reconstructs:
        raise InputError("--reconstruct", f"'{about.key}' does not", "leave it out")
    asked = RunOptions(
        start=options.start,
        seed=options.seed,
        volumes=options.reconstruct,
        refusal_fails=True,
        one_grid=False,
        one_view=options.one_view,
    )
    runs = run_methods(folder, methods, asked, report.part(0.0, 0.98))
    rows = runs.rows
    parts = by_realism(rows, about)
    (whole,) = summarize(rows, [about])
    groups = {name: [row for row in rows if row.realism == name] for name in parts}
    alone = one_view_parts({**groups, "all": rows})
    text = tables.cases_markdown(rows, {**parts, "all": whole})
    if alone:
        text += f"\n{tables.one_view_markdown(alone)}\n{tables.one_view_cases_markdown(rows)}"
    (stage / "evaluation.md").write_text(text, encoding="utf-8")
    csv_text = tables.rows_csv(rows, tables.CASE_COLUMNS)
    (stage / "evaluation.csv").write_text(csv_text, encoding="utf-8")

    def told(name: str, part: Summary) -> dict[str, Any]:
        return part.contract() | ({"one_view": alone[name].to_json()} if name in alone else {})

    content = {
        "schema": "radgsreg/evaluation",
        "version": 1,
        "summary": {
            "all": told("all", whole),
            "levels": {name: told(name, part) for name, part in parts.items()},
        },
        "trials": [tables.row_values(row, tables.CASE_COLUMNS) for row in rows],
        "software": software_versions(),
        "parameters": {
            "seed": options.seed,
            "start": options.start,
            "method": about.key,
            "one_view": options.one_view,
        },
    }
    write_json(content, stage / "evaluation.json")
    write_pictures(stage, plots.case_plots(rows))
    return Report(text, {**parts, "all": whole}, runs, one_view=alone.get("all"))


def write_paper(
    folder: Path, stage: Path, options: EvaluationOptions, progress: Progress | None = None
) -> Report:
    """Run the paper's protocol on the cases of ``folder`` and write all its files into ``stage``.

    The summaries are those of every method. For the rest see `write_cases`.
    """
    report = progress or Progress()
    methods = options.chosen(folder, options.methods)
    abouts = [method.about for method in methods]
    names = [path.resolve().name for path in find_cases(folder)]
    stems = dict(zip(names, unlike_stems(names), strict=True))
    pictured: list[str] = []

    def draw(answers: CaseAnswers) -> None:
        name = answers.task.name
        if len(pictured) < options.pictured:
            pictured.append(name)
            pictures = panels.case_panels(answers).items()
            write_pictures(stage, {f"{kind}_{stems[name]}.png": png for kind, png in pictures})

    asked = RunOptions(options.start, options.draws, options.seed)
    runs = run_methods(folder, methods, asked, report.part(0.0, 0.98), draw)
    report(0.98, "writing tables and plots")
    reference = reference_of(abouts)
    summaries = summarize(runs.rows, abouts, reference)
    first, second = _split(summaries, abouts)
    text = _page(first, second, summaries, abouts, options)
    (stage / "paper.md").write_text(text, encoding="utf-8")
    (stage / "table1.csv").write_text(tables.summaries_csv(first), encoding="utf-8")
    if second:
        (stage / "table2.csv").write_text(tables.summaries_csv(second), encoding="utf-8")
    runs_csv = tables.rows_csv(runs.rows, tables.RUN_COLUMNS)
    (stage / "runs.csv").write_text(runs_csv, encoding="utf-8")
    parameters = ("seed", "start", "draws", "effort", "device")
    content = {
        "schema": "radgsreg/paper",
        "version": 1,
        "reference": reference,
        "test": "wilcoxon signed-rank, two-sided (scipy.stats.wilcoxon)",
        "methods": [
            {"key": m.key, "label": m.label, "group": m.group, "facts": dict(m.facts)}
            for m in abouts
        ],
        "summaries": [summary.to_json() for summary in summaries],
        "runs": [tables.row_values(row, tables.RUN_COLUMNS) for row in runs.rows],
        "curves": [vars(curve) for curve in runs.curves],
        "software": software_versions(),
        "parameters": {name: getattr(options, name) for name in parameters},
    }
    write_json(content, stage / "paper.json")
    write_pictures(stage, plots.method_plots(runs, abouts))
    return Report(text, {summary.method: summary for summary in summaries}, runs, reference)


def reference_of(methods: Sequence[About]) -> str | None:
    """Choose what the others are tested against: the first model refined, else the first model,
    else ours without training."""
    refined = [m.key for m in methods if m.key.endswith(REFINED)]
    alone = [m.key for m in methods if m.group == "model"]
    ours = [m.key for m in methods if m.group == "ours"]
    return next(iter([*refined, *alone, *ours]), None)


def write_pictures(stage: Path, pictures: dict[str, bytes]) -> None:
    """Write pictures by their names into an existing folder."""
    for name, png in pictures.items():
        (stage / name).write_bytes(png)


def _split(
    summaries: Sequence[Summary], methods: Sequence[About]
) -> tuple[list[Summary], list[Summary]]:
    """Table 1: baselines, ours and the first model; table 2: all models, if there are any."""
    keys = [m.key for m in methods if m.group == "model"]
    first_name = own_name(keys[0]) if keys else ""
    others = {key for key in keys if own_name(key) != first_name}
    first = [s for s in summaries if s.method not in others]
    return first, [s for s in summaries if s.method in keys]


def _page(
    first: Sequence[Summary],
    second: Sequence[Summary],
    summaries: Sequence[Summary],
    methods: Sequence[About],
    options: EvaluationOptions,
) -> str:
    reference = reference_of(methods)
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
        tables.methods_markdown(first),
        "## Table 2: models",
        "",
    ]
    if second:
        lines.append(tables.methods_markdown(second))
    else:
        lines += ["No model was given (`--model NAME=PATH`).", ""]
    if any(s.tests for s in summaries):
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
