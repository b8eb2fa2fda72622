"""Learning how vertebrae differ: the modes of `networks.shapes.Shapes`, from volumes.

Modes and every vertebra's coefficients are found together, by gradient descent on the difference
of voxelized Gaussians and volumes (an auto-decoder whose decoder is linear). Fitted each for
itself, two vertebrae that are alike may be said by Gaussians that moved in two different ways; what
all of them share is asked for here instead.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..gaussians import voxelize
from ..networks import NUMBERS, Anchors, Shapes
from ..system import Progress
from ..tensors import load_tensors, save_tensors
from . import bounds
from .pool import Source
from .readers import phantom_sources
from .subjects import Subject
from .template import EDGE_MM, SPACING_MM, index_to_box, resampled

_EDGE = round(EDGE_MM / SPACING_MM)
_NEIGHBOURS = 8
_SEED = 3 * 10**6
FILE = "shapes.safetensors"
SHAPES = "how vertebrae differ"
"""Where a card says what the modes were learned from."""


@dataclass(frozen=True)
class ShapeOptions:
    """``modes`` of shape (0: none are learned), from the stage's vertebrae and from those of
    ``phantoms`` more spines, in ``epochs`` over them, ``batch`` at a time. There are at least three
    vertebrae to a mode, and at most four more phantoms and twenty of the stage's vertebrae to a
    minute of the budget.

    ``smooth``: how much neighbouring Gaussians should move alike; ``near``: how much coefficients
    should be small.
    """

    modes: int = 32
    phantoms: int = 120
    epochs: int = 16
    batch: int = 4
    rate: float = 4e-3
    smooth: float = 0.05
    near: float = 3e-3

    def __post_init__(self) -> None:
        if self.modes < 0 or self.phantoms < 0 or self.epochs < 1 or self.batch < 1:
            raise InputError("shapes", "modes and phantoms are not negative, the rest positive")
        if not self.rate > 0 or self.smooth < 0 or self.near < 0:
            raise InputError("shapes", "rate is positive, smooth and near are not negative")


def shapes_of(
    anchors: Anchors,
    sources: Sequence[Source],
    options: ShapeOptions,
    *,
    seed: int,
    folder: Path,
    minutes: float | None = None,
    progress: Progress | None = None,
    enough: Callable[[], bool] | None = None,
) -> Shapes | None:
    """Learn modes from the sources' vertebrae and more phantoms; None where there are too few
    for any, or where ``enough`` says that the training is to end.

    ``minutes``: the budget of the whole training, if there is one. What was learned is kept in
    ``folder``, the training's own, so that an interrupted one does not learn it again. Raises
    Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    if options.modes == 0:
        return None
    path = folder / FILE
    if path.is_file():
        return _read(path, len(anchors))
    more, step = options.phantoms, 1
    if minutes is not None:
        more = min(more, int(bounds.PHANTOMS_PER_MINUTE * minutes))
        step = math.ceil(len(sources) / max(bounds.SOURCES_PER_MINUTE * minutes, 1.0))
    over = enough or (lambda: False)
    with TemporaryDirectory(prefix="radgsreg-") as name:
        made = phantom_sources(more, seed + _SEED, folder=Path(name))
        every = [*sources[::step], *made]
        volumes = []
        for number, source in enumerate(every):
            if over():
                return None
            report(0.5 * number / len(every), "gathering vertebrae")
            volumes.append(volume_of(source.subject()))
    modes = min(options.modes, len(volumes) // bounds.VERTEBRAE_PER_MODE)
    if modes == 0:
        return None
    part = report.part(0.5, 1.0)
    chosen = replace(options, modes=modes)
    shapes = learn_shapes(anchors, volumes, chosen, seed=seed, progress=part, enough=over)
    if shapes is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"vertebrae": len(volumes), "of them from phantoms made for this": len(made)}
    save_tensors(path, shapes.state_dict(), facts)
    return shapes


def shape_facts(folder: Path) -> dict[str, Any]:
    """Return what a card says of the modes that `shapes_of` kept in ``folder``; empty if it did
    not."""
    if not (folder / FILE).is_file():
        return {}
    tensors, facts = load_tensors(folder / FILE)
    return {"modes": len(tensors["modes"]), **facts}


def _read(path: Path, anchors: int) -> Shapes:
    tensors, _ = load_tensors(path)
    try:
        shapes = Shapes(len(tensors["modes"]), anchors)
        shapes.load_state_dict(tensors)
    except (KeyError, RuntimeError):
        raise InputError(
            path, "belongs to another training", "remove it or name another --work"
        ) from None
    return shapes


def volume_of(subject: Subject) -> NDArray[np.float16]:
    """Return a subject's excess (1/mm) on the anchors' grid, in half precision to keep hundreds."""
    return resampled(subject, subject.anchors_to_centred, SPACING_MM).astype(np.float16)


def learn_shapes(
    anchors: Anchors,
    volumes: Sequence[NDArray[np.float16]],
    options: ShapeOptions,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    enough: Callable[[], bool] | None = None,
) -> Shapes | None:
    """Learn modes over ``anchors`` from volumes (K, J, I) of `volume_of`, 1/mm; None once
    ``enough`` says that it is to end.

    Raises InputError for fewer volumes than modes, and Cancelled when ``progress`` says so.
    """
    report = progress or Progress()
    count, known = options.modes, len(volumes)
    if known < max(count, 2):
        raise InputError("shapes", f"{known} vertebrae are too few for {count} modes")
    still = Anchors(anchors.cloud(), reach_mm=anchors.reach_mm, embedding=1, free=False)
    random = np.random.default_rng([seed, 11])
    mean = torch.zeros(len(anchors), NUMBERS, requires_grad=True)
    modes = _smooth_moves(still, count, random).requires_grad_()
    coefficients = torch.zeros(known, count)
    slopes, squares = torch.zeros_like(coefficients), torch.zeros(known, 1)
    adam = torch.optim.Adam([mean, modes], lr=options.rate, betas=(0.9, 0.99))
    among = min(_NEIGHBOURS + 1, len(anchors))
    near = torch.cdist(still.means, still.means).topk(among, largest=False).indices[:, 1:]
    batches = [
        part
        for _ in range(options.epochs)
        for part in np.split(random.permutation(known), range(options.batch, known, options.batch))
    ]
    for number, chosen in enumerate(batches):
        if enough is not None and enough():
            return None
        report(number / len(batches), "learning how vertebrae differ")
        rate = 0.5 + 0.5 * np.cos(np.pi * number / len(batches))
        adam.param_groups[0]["lr"] = options.rate * rate + 1e-5
        rows = torch.from_numpy(chosen)
        own = coefficients[rows].requires_grad_()
        raw = mean + torch.einsum("bk,kna->bna", own, modes)
        targets = [torch.from_numpy(volumes[n].astype(np.float32)) for n in chosen]
        loss = _misfit(still, raw, targets) + options.near * own.square().mean()
        bent = (raw[:, :, None] - raw[:, near]).square()
        loss = loss + options.smooth * (bent[..., :3].mean() + 0.1 * bent[..., 3:].mean())
        adam.zero_grad()
        loss.backward()
        adam.step()
        # Each row is met once an epoch: Adam with one step size per row, and hardly any memory.
        slope = own.grad
        assert slope is not None
        slopes[rows] = 0.7 * slopes[rows] + 0.3 * slope
        squares[rows] = 0.9 * squares[rows] + 0.1 * slope.square().mean(1, keepdim=True)
        step = slopes[rows] / (squares[rows].sqrt() + 1e-9)
        coefficients[rows] -= (0.09 * rate + 0.006) * step
    with torch.no_grad():
        return _whitened(mean, modes, coefficients)


def _smooth_moves(anchors: Anchors, count: int, random: np.random.Generator) -> Tensor:
    """Modes to begin with (K, N, 11): displacements that are polynomials of the position up to
    degree two, then a little of anything."""
    x = anchors.means / anchors.means.std(0)
    ones = torch.ones(len(x), 1)
    products = torch.stack([x[:, a] * x[:, b] for a in range(3) for b in range(a, 3)], dim=1)
    basis = torch.cat([x, ones, products], dim=1)
    noise = 0.02 * torch.from_numpy(random.standard_normal((count, len(x), NUMBERS))).float()
    for number in range(min(count, 3 * basis.shape[1])):
        noise[number, :, number % 3] += 0.1 * basis[:, number // 3]
    return noise


def _misfit(anchors: Anchors, raw: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """The mean squared difference of raw numbers (B, N, 11) and volumes, of the volumes' own."""
    count = len(raw)
    clouds = anchors.decode(raw, torch.eye(4).expand(count, 4, 4), torch.ones(count, 3))
    grid, size = index_to_box(SPACING_MM), (_EDGE, _EDGE, _EDGE)
    costs = [
        (voxelize(cloud, grid, size) - target).square().mean()
        / target.square().mean().clamp_min(1e-12)
        for cloud, target in zip(clouds, targets, strict=True)
    ]
    return torch.stack(costs).mean()


def _whitened(mean: Tensor, modes: Tensor, coefficients: Tensor) -> Shapes:
    """The same shapes in coefficients that do not go together, of variance one, the mode of most
    variance first."""
    count = len(modes)
    moves = coefficients @ modes.flatten(1)
    middle = moves.mean(0)
    _, deviations, axes = torch.linalg.svd(moves - middle, full_matrices=False)
    shapes = Shapes(count, len(mean))
    shapes.mean.copy_(mean + middle.view_as(mean))
    scaled = axes[:count] * (deviations[:count, None] / len(coefficients) ** 0.5)
    shapes.modes.copy_(scaled.view_as(modes))
    return shapes
