"""One hook for progress and cancellation, used by every long job.

A *progress callable* takes ``(fraction, message)`` with the fraction in [0, 1] and returns
``False`` to ask the job to stop; any other return value (also ``None``) lets it go on.

A *pose callable* takes the best ct_to_world (4, 4) so far: what a registration would have to answer
if it had to stop now. A *figures callable* takes what a training has measured of its best so far,
by name. A *reconstruction callable* takes the folder that holds a reconstruction's files already
while the work goes on. A *volume callable* takes the reconstruction so far (1/mm, world axes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..errors import Cancelled

if TYPE_CHECKING:
    # The command line starts before anything heavy is loaded.
    import numpy as np
    from numpy.typing import NDArray

    from ..geometry import Volume

ProgressCallable = Callable[[float, str], bool | None]
PoseCallable: TypeAlias = "Callable[[NDArray[np.float64]], object]"
FiguresCallable = Callable[[dict[str, float]], object]
ReconstructionCallable = Callable[[Path], object]
VolumeCallable: TypeAlias = "Callable[[Volume], object]"


@dataclass(frozen=True, eq=False)
class Progress:
    """Reports to a progress callable and raises `Cancelled` once that asks to stop."""

    callback: ProgressCallable | None = None
    start: float = 0.0
    stop: float = 1.0
    on_pose: PoseCallable | None = None
    on_figures: FiguresCallable | None = None
    on_reconstruction: ReconstructionCallable | None = None
    on_volume: VolumeCallable | None = None

    def __call__(self, fraction: float, message: str) -> None:
        """Report ``fraction`` of this part of the work; raises `Cancelled` when asked to stop."""
        if self.callback is None:
            return
        fraction = min(max(fraction, 0.0), 1.0)
        overall = self.start + (self.stop - self.start) * fraction
        if self.callback(overall, message) is False:
            raise Cancelled(message)

    def pose(self, ct_to_world: NDArray[np.float64]) -> None:
        """Report the best pose so far (4, 4), to whoever shows it or keeps it after a Cancel."""
        if self.on_pose is not None:
            self.on_pose(ct_to_world)

    def figures(self, figures: dict[str, float]) -> None:
        """Report what was measured of the best model so far (errors in mm, by name)."""
        if self.on_figures is not None:
            self.on_figures(figures)

    def reconstruction(self, folder: Path) -> None:
        """Report the folder in which a reconstruction is whole, while the work goes on."""
        if self.on_reconstruction is not None:
            self.on_reconstruction(folder)

    def volume(self, make: Callable[[], Volume]) -> None:
        """Report the volume so far; it is made only where someone looks at it."""
        if self.on_volume is not None:
            self.on_volume(make())

    def part(self, start: float, stop: float) -> Progress:
        """A reporter for the stretch from ``start`` to ``stop`` of this one's range."""
        width = self.stop - self.start
        return replace(self, start=self.start + width * start, stop=self.start + width * stop)
