"""Rows to the numbers of a table: mean and deviation per method, and the paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ...measures import pose as metrics
from .answers import Method
from .measure import Row

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
    `metrics.describe`, over the runs from the cases' own starts; None where the method does not do
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
    tests: dict[str, Test]

    def to_json(self) -> dict[str, Any]:
        """All values by name."""
        out = {key: value for key, value in vars(self).items() if key != "tests"}
        tests = {
            name: {**vars(test), "significant": test.is_significant}
            for name, test in self.tests.items()
        }
        return {**out, "tests": tests}


def paired_test(values: ArrayLike, reference: ArrayLike) -> Test:
    """Wilcoxon's signed-rank test and Student's paired t-test (scipy.stats), both two-sided.

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
    rows: Sequence[Row], methods: Sequence[Method], reference: str | None
) -> list[Summary]:
    """One summary per method, in their order; tests against ``reference`` where that is there."""
    return [_summary(rows, method, reference) for method in methods]


def _summary(rows: Sequence[Row], method: Method, reference: str | None) -> Summary:
    mine = [row for row in rows if row.method == method.key]
    own = [row for row in mine if row.run == 0]
    tests = {}
    if reference is not None and reference != method.key:
        theirs = {row.case: row for row in rows if row.method == reference and row.run == 0}
        both = [(row, theirs[row.case]) for row in own if row.case in theirs]
        for name in TESTED:
            pairs = np.array([[_number(getattr(r, name)) for r in pair] for pair in both])
            pairs = pairs.reshape(-1, 2)
            if np.isfinite(pairs).all(axis=1).any():
                tests[name] = paired_test(pairs[:, 0], pairs[:, 1])
    registers, reconstructs = method.registers, method.reconstructs
    errors = [_number(row.mtre_mm) for row in own]
    started = [row for row in mine if row.start_mtre_mm is not None]
    starts = [_number(row.start_mtre_mm) for row in started]
    ends = [_number(row.mtre_mm) for row in started]
    return Summary(
        method=method.key,
        label=method.label,
        cases=len(own),
        runs=len(mine),
        failed=sum(bool(row.problem) for row in mine),
        ssim=_described(own, "ssim") if reconstructs else None,
        psnr_db=_described(own, "psnr_db") if reconstructs else None,
        mtre_mm=metrics.describe(errors) if registers else None,
        sr=metrics.success_rate(errors) if registers else None,
        smsr=metrics.success_rate(errors, metrics.SUBMILLIMETRE_MM) if registers else None,
        cr_mm=metrics.capture_range_mm(starts, ends) if registers and started else None,
        bins=tuple(metrics.capture_bins(starts, ends)) if registers else (),
        registration_s=_described(_warm(own), "registration_s") if registers else None,
        reconstruction_s=_described(_warm(own), "reconstruction_s") if reconstructs else None,
        silent_failures=sum(
            row.status == "ok" and not _number(row.mtre_mm) < metrics.SUCCESS_MM for row in mine
        ),
        tests=tests,
    )


def _warm(rows: Sequence[Row]) -> list[Row]:
    """Runs without one-off work, or all where there are no others."""
    return [row for row in rows if row.is_warm] or list(rows)


def _described(rows: Sequence[Row], name: str) -> dict[str, float]:
    return metrics.describe([_number(getattr(row, name)) for row in rows])


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
