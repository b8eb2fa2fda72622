"""TensorBoard, where it is wanted and installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError


@contextmanager
def board(folder: Path | None) -> Iterator[Callable[[int, dict[str, float]], None] | None]:
    """Open a folder for TensorBoard and give what writes values by name at a step into it; None
    without a folder.

    Raises InputError where a folder is given and TensorBoard is not installed.
    """
    if folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--board", "needs TensorBoard", "install tensorboard") from None
    with SummaryWriter(str(folder)) as writer:

        def write(step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield write
