"""Methods on cases whose truth is known: runs, tables, plots and two reports."""

from .measure import Row, Yardstick
from .reports import EvaluationOptions, Report, write_cases, write_paper
from .run import CaseAnswers, Curve, RunOptions, Runs, run_methods
from .starts import drawn_tasks, own_task, start_from_clicks
from .summary import Summary, paired_test, summarize
from .truth import Truth, find_cases, read_truth

__all__ = [
    "CaseAnswers",
    "Curve",
    "EvaluationOptions",
    "Report",
    "Row",
    "RunOptions",
    "Runs",
    "Summary",
    "Truth",
    "Yardstick",
    "drawn_tasks",
    "find_cases",
    "own_task",
    "paired_test",
    "read_truth",
    "run_methods",
    "start_from_clicks",
    "summarize",
    "write_cases",
    "write_paper",
]
