"""The door for how a rendering is compared with an X-ray, and its guest, local normalisation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..views import Contrast, LocalNormalization, Windows
from .bounds import NOISE_FACTOR
from .options import RefineOptions


@dataclass(frozen=True)
class Comparison:
    """N renderings beside what was observed.

    ``difference`` (N, rows, columns): observed less rendered, both as the residual sees them;
    ``weight`` of its pixels; ``score`` (N,): how well each agrees, at most 1. ``push`` takes
    derivatives (P, N, rows, columns) of the renderings to those of what the residual sees, and
    ``pull`` is its transpose: weights (N, rows, columns) of the difference to weights of pixels.
    """

    difference: Tensor
    weight: Tensor
    score: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


class Residual(Protocol):
    """A comparison of windows with renderings. What it is prepared with is its own affair.

    All stays on the windows' device, and nothing of it is read by the host.
    """

    def prepare(self, windows: Windows, signs: Tensor, options: RefineOptions) -> tuple[Any, ...]:
        """Prepare N windows once for a stage: one term per scale; ``signs`` (N,) +1 where bone is
        bright, else -1."""

    def part(self, term: Any, index: Tensor) -> Any:
        """Return a term of some of its windows."""

    def compare(
        self, term: Any, images: Tensor, weight: Tensor, options: RefineOptions
    ) -> Comparison:
        """Compare renderings (N, rows, columns) with a term of N windows.

        ``weight`` (N, rows, columns): how much pixels count by where the bodies are. There may be
        several renderings (S, N, rows, columns) of each; then only the scores (S, N) are asked for.
        """


@dataclass(frozen=True)
class NormalizedTerm:
    """N windows normalised in neighbourhoods of one size, bone bright: ``observed`` (N, ...)."""

    normalizer: LocalNormalization
    observed: Tensor


class LocallyNormalized:
    """A `Residual`: the difference of images normalised in their neighbourhoods (math.md 4).

    Unknown display curves, scatter and a smooth background change an image locally by a gain and
    an offset, which this takes off. Its score is the weighted local normalised correlation.
    """

    def prepare(
        self, windows: Windows, signs: Tensor, options: RefineOptions
    ) -> tuple[NormalizedTerm, ...]:
        """Normalise windows in each of the options' neighbourhoods."""
        terms = []
        for sigma in options.neighbourhoods_mm:
            normalizer = LocalNormalization(windows.valid, sigma / windows.pixel_mm)
            contrast = normalizer.contrast(windows.image)
            known = torch.where(windows.valid > 0, contrast.deviation, torch.nan)
            typical = torch.nanmedian(known.flatten(1), 1).values.nan_to_num(nan=1.0)
            least = torch.maximum(NOISE_FACTOR * windows.noise, options.contrast_floor * typical)
            floor = least.clamp_min(1e-6)[:, None, None]
            observed = signs[:, None, None] * contrast.normalized(floor).image
            terms.append(NormalizedTerm(normalizer, observed))
        return tuple(terms)

    def part(self, term: NormalizedTerm, index: Tensor) -> NormalizedTerm:
        """Take some windows of a term."""
        return NormalizedTerm(term.normalizer.part(index), term.observed[index])

    def compare(
        self, term: NormalizedTerm, images: Tensor, weight: Tensor, options: RefineOptions
    ) -> Comparison:
        """Normalise the renderings likewise and subtract them."""
        contrast = term.normalizer.contrast(images)
        rendered = contrast.normalized(contrast_floor(contrast, weight, options))
        return Comparison(
            term.observed - rendered.image,
            weight,
            correlation(weight, term.observed, rendered.image),
            rendered.push,
            rendered.pull,
        )


def contrast_floor(contrast: Contrast, weight: Tensor, options: RefineOptions) -> Tensor:
    """Return a share of the typical contrast where ``weight`` is above zero: added in quadrature to
    the local deviation, it keeps flat places from being blown up to noise. (..., 1, 1)."""
    counts = weight > 0
    typical = (contrast.deviation * counts).sum((-2, -1)) / counts.sum((-2, -1)).clamp_min(1)
    return (options.contrast_floor * typical + 1e-9)[..., None, None]


def correlation(weight: Tensor, observed: Tensor, rendered: Tensor) -> Tensor:
    """Return the weighted correlation (...) of images of mean zero (..., rows, columns), in
    [-1, 1]."""
    weighted = weight * observed
    own = (weighted * observed).sum((-2, -1))
    energy = own * (weight * rendered * rendered).sum((-2, -1))
    return (weighted * rendered).sum((-2, -1)) / energy.clamp_min(1e-12).sqrt()
