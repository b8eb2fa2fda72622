"""Rows to the numbers of a table: mean and deviation per method, and the paired tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..measures import SUBMILLIMETRE_MM, capture_bins, capture_range_mm, describe, success_rate
from ..methods import About
from .measure import Row, number

SIGNIFICANT = 0.05
TESTED = ("ssim", "psnr_db", "mtre_mm")


@dataclass(frozen=True)
class Test:
    """A method against the reference on the cases that both answered.

    ``wilcoxon_p`` and ``t_p``: two-sided, of the paired differences; NaN for fewer than two pairs.
    ``difference``: mean of the method's values minus the reference's.
    """

    pairs: int
    difference: float
    wilcoxon_p: float
    t_p: float

    @property
    def is_significant(self) -> bool:
        """Wilcoxon's p below 0.05."""
        return bool(self.wilcoxon_p < SIGNIFICANT)


@dataclass(frozen=True)
class Summary:
    """One method over all cases; see docs/evaluation.md for every number.

    ``ssim``, ``psnr_db``, ``mtre_mm``, ``registration_s``, ``reconstruction_s``: from
    `measures.describe`, over the runs from the cases' own starts; None where the method does not do
    that. ``sr`` and ``smsr``: shares; ``cr_mm`` over all runs; ``tests`` by the names of `TESTED`.
    """

    method: str
    label: str
    cases: int
    runs: int
    failed: int
    ssim: dict[str, float] | None
    psnr_db: dict[str, float] | None
    mtre_mm: dict[str, float] | None
    sr: float | None
    smsr: float | None
    cr_mm: float | None
    bins: tuple[tuple[float, float, int, float], ...]
    registration_s: dict[str, float] | None
    reconstruction_s: dict[str, float] | None
    silent_failures: int
    false_alarms: int
    tests: dict[str, Test]

    def to_json(self) -> dict[str, Any]:
        """Return all values by name."""
        tests = {
            name: {**vars(test), "significant": test.is_significant}
            for name, test in self.tests.items()
        }
        return {**vars(self), "tests": tests}

    def contract(self) -> dict[str, Any]:
        """Return the contract's metrics of a method that registers, as in evaluation.json."""
        values = {
            "cases": self.cases,
            "mtre_mm": self.mtre_mm,
            "sr": self.sr,
            "smsr": self.smsr,
            "cr_mm": self.cr_mm,
            "silent_failures": self.silent_failures,
            "false_alarms": self.false_alarms,
            "rt_s": (self.registration_s or {}).get("median"),
        }
        if self.ssim is not None:
            values |= {"ssim": self.ssim, "psnr_db": self.psnr_db}
        return values


@dataclass(frozen=True)
class Expected:
    """What a method itself expects of its errors: their median, mm, and the share of errors that
    are at most twice what was expected of them; None where it expects nothing."""

    median_mm: float | None
    within_twice: float | None


def expected_of(rows: Sequence[Row]) -> Expected:
    """Hold what was expected of some runs against what they came to."""
    said = [row for row in rows if row.expected_error_mm is not None]
    if not said:
        return Expected(None, None)
    expected = np.array([number(row.expected_error_mm) for row in said])
    errors = np.array([number(row.mtre_mm) for row in said])
    return Expected(float(np.median(expected)), float(np.mean(errors <= 2.0 * expected)))


def paired_test(values: ArrayLike, reference: ArrayLike) -> Test:
    """Run Wilcoxon's signed-rank test and Student's paired t-test (scipy.stats), two-sided.

    ``values`` and ``reference`` (N,) belong together one by one; pairs with a value that is not
    finite are left out. Where all differences are zero, p is 1.
    """
    a, b = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    if a.shape != b.shape:
        raise ValueError("paired values must come in equal numbers")
    finite = np.isfinite(a) & np.isfinite(b)
    difference = a[finite] - b[finite]
    if len(difference) < 2:
        mean = float(difference.mean()) if len(difference) else float("nan")
        return Test(len(difference), mean, float("nan"), float("nan"))
    if not difference.any():
        return Test(len(difference), 0.0, 1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        wilcoxon = float(stats.wilcoxon(difference).pvalue)
        same = bool(np.ptp(difference) == 0.0)
        student = 0.0 if same else float(stats.ttest_1samp(difference, 0.0).pvalue)
    return Test(len(difference), float(difference.mean()), wilcoxon, student)


def summarize(
    rows: Sequence[Row], methods: Sequence[About], reference: str | None = None
) -> list[Summary]:
    """Summarise each method, in their order; tests against ``reference`` where that is there."""
    return [_summary(rows, about, reference) for about in methods]


def by_realism(rows: Sequence[Row], about: About) -> dict[str, Summary]:
    """Summarise one method for every realism that the cases name, in alphabetical order."""
    return by_kind(rows, about, lambda row: row.realism)


def by_kind(rows: Sequence[Row], about: About, kind_of: Callable[[Row], str]) -> dict[str, Summary]:
    """Summarise one method for every kind that there is ("" is none), in alphabetical order."""
    kinds = sorted({kind_of(row) for row in rows} - {""})
    return {kind: _summary([r for r in rows if kind_of(r) == kind], about, None) for kind in kinds}


def _summary(rows: Sequence[Row], about: About, reference: str | None) -> Summary:
    mine = [row for row in rows if row.method == about.key]
    own = [row for row in mine if row.run == 0]
    reconstructed = about.reconstructs and any(row.ssim is not None for row in own)
    errors = [number(row.mtre_mm) for row in own]
    started = [row for row in mine if row.start_mtre_mm is not None]
    starts = [number(row.start_mtre_mm) for row in started]
    ends = [number(row.mtre_mm) for row in started]
    # Runs without one-off work, or all where there are no others.
    warm = [row for row in own if row.is_warm] or own
    registers = about.registers
    return Summary(
        method=about.key,
        label=about.label,
        cases=len(own),
        runs=len(mine),
        failed=sum(bool(row.problem) for row in mine),
        ssim=_described(own, "ssim") if reconstructed else None,
        psnr_db=_described(own, "psnr_db") if reconstructed else None,
        mtre_mm=describe(errors) if registers else None,
        sr=success_rate(errors) if registers else None,
        smsr=success_rate(errors, SUBMILLIMETRE_MM) if registers else None,
        cr_mm=capture_range_mm(starts, ends) if registers and started else None,
        bins=tuple(capture_bins(starts, ends)) if registers else (),
        registration_s=_described(warm, "registration_s") if registers else None,
        reconstruction_s=_described(warm, "reconstruction_s") if about.reconstructs else None,
        silent_failures=sum(row.is_silent_failure for row in mine),
        false_alarms=sum(row.is_false_alarm for row in mine),
        tests=_tests(rows, own, reference) if reference != about.key else {},
    )


def _tests(rows: Sequence[Row], own: Sequence[Row], reference: str | None) -> dict[str, Test]:
    theirs = {row.case: row for row in rows if row.method == reference and row.run == 0}
    both = [(row, theirs[row.case]) for row in own if row.case in theirs]
    tests = {}
    for name in TESTED:
        pairs = np.array([[number(getattr(r, name)) for r in pair] for pair in both])
        pairs = pairs.reshape(-1, 2)
        if np.isfinite(pairs).all(axis=1).any():
            tests[name] = paired_test(pairs[:, 0], pairs[:, 1])
    return tests


def _described(rows: Sequence[Row], name: str) -> dict[str, float]:
    return describe([number(getattr(row, name)) for row in rows])
