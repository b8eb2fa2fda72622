"""What X-rays of every format must be: one frame, grey."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import InputError


def checked_frame(path: Path, frame: int | None, count: int) -> int:
    """The frame to read; InputError where none is chosen of several, or one that is not there."""
    if frame is None and count > 1:
        raise InputError(
            path,
            f"holds {count} frames",
            f'choose one with "frame": 0 to {count - 1}, or follow all of them with radgsreg track',
        )
    if not 0 <= (frame or 0) < count:
        raise InputError(path, f"has no frame {frame}; its frames are 0 to {count - 1}")
    return frame or 0


def grey(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """One channel of (rows, columns, channels) whose colours are all alike."""
    colours = array[..., :3] if array.shape[-1] >= 3 else array[..., :1]
    if (colours != colours[..., :1]).any():
        raise InputError(path, "is a colour image, no X-ray")
    return colours[..., 0]
