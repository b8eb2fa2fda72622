"""The door for how a rendering is compared with an X-ray, and its guest, local normalisation."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..views import Contrast, LocalNormalization, Window
from .bounds import NOISE_FACTOR
from .options import RefineOptions


@dataclass(frozen=True)
class Comparison:
    """V renderings beside what was observed.

    ``difference`` (V, rows, columns): observed less rendered, both as the residual sees them;
    ``weight`` of its pixels; ``score`` (V,): how well each agrees, at most 1. ``push`` takes
    derivatives (P, V, rows, columns) of the renderings to those of what the residual sees, and
    ``pull`` is its transpose: weights (V, rows, columns) of the difference to weights of pixels.
    """

    difference: Tensor
    weight: Tensor
    score: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


class Residual(Protocol):
    """A comparison of windows with renderings. What it is prepared with is its own affair."""

    def prepare(self, window: Window, sign: int, options: RefineOptions) -> tuple[Any, ...]:
        """Prepare a window once for a stage: one term per scale; ``sign`` +1 where bone is bright,
        else -1."""

    def kind(self, term: Any) -> Hashable:
        """Return what terms of several views have in common that can be compared together."""

    def compare(
        self, terms: Sequence[Any], images: Tensor, weight: Tensor, options: RefineOptions
    ) -> Comparison:
        """Compare renderings (V, rows, columns) with one term of each of V views of one kind.

        ``weight`` (V, rows, columns): how much pixels count by where the bodies are. With one view
        there may be several renderings (N, rows, columns) of it.
        """


@dataclass(frozen=True)
class NormalizedTerm:
    """An X-ray's window normalised in neighbourhoods of one size, bone bright."""

    normalizer: LocalNormalization
    observed: Tensor


class LocallyNormalized:
    """A `Residual`: the difference of images normalised in their neighbourhoods (math.md 4).

    Unknown display curves, scatter and a smooth background change an image locally by a gain and
    an offset, which this takes off. Its score is the weighted local normalised correlation.
    """

    def prepare(
        self, window: Window, sign: int, options: RefineOptions
    ) -> tuple[NormalizedTerm, ...]:
        """Normalise a window in each of the options' neighbourhoods."""
        terms = []
        for sigma in options.neighbourhoods_mm:
            normalizer = LocalNormalization(window.valid, sigma / window.pixel_mm)
            deviation = normalizer.deviation(window.image)[window.valid > 0]
            typical = float(deviation.median()) if deviation.numel() else 1.0
            floor = max(NOISE_FACTOR * window.noise, options.contrast_floor * typical, 1e-6)
            observed = sign * normalizer.normalize(window.image, floor)
            terms.append(NormalizedTerm(normalizer, observed))
        return tuple(terms)

    def kind(self, term: NormalizedTerm) -> Hashable:
        """Size and neighbourhood."""
        return term.normalizer.kind

    def compare(
        self,
        terms: Sequence[NormalizedTerm],
        images: Tensor,
        weight: Tensor,
        options: RefineOptions,
    ) -> Comparison:
        """Normalise the renderings likewise and subtract them."""
        normalizer = LocalNormalization.stacked([term.normalizer for term in terms])
        observed = torch.stack([term.observed for term in terms])
        contrast = normalizer.contrast(images)
        rendered = contrast.normalized(contrast_floor(contrast, weight, options))
        return Comparison(
            observed - rendered.image,
            weight,
            correlation(weight, observed, rendered.image),
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
