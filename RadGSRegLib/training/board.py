"""TensorBoard, where it is wanted and installed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import InputError


class Board:
    """Writes values by step into a folder for TensorBoard; does nothing without a folder.

    Raises InputError where a folder is given and TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("--board", "needs TensorBoard", "install tensorboard") from None
        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Values by name at a step."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()
