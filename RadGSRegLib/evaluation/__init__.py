"""Methods on cases whose truth is known: runs, tables, plots and two reports."""

from .measure import Row as Row
from .measure import Yardstick as Yardstick
from .one_view import OneView as OneView
from .reports import EvaluationOptions as EvaluationOptions
from .reports import Report as Report
from .reports import write_cases as write_cases
from .reports import write_paper as write_paper
from .run import CaseAnswers as CaseAnswers
from .run import RunOptions as RunOptions
from .run import Runs as Runs
from .run import run_methods as run_methods
from .several import several_rows as several_rows
from .several import write_several as write_several
from .starts import drawn_tasks as drawn_tasks
from .starts import one_view_tasks as one_view_tasks
from .starts import own_task as own_task
from .starts import start_from_clicks as start_from_clicks
from .summary import paired_test as paired_test
from .summary import summarize as summarize
from .truth import Truth as Truth
from .truth import find_cases as find_cases
from .truth import read_truth as read_truth
