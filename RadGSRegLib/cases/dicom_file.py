"""Reading DICOM files without trusting them and without repeating what they say of a patient."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Without pydicom's warnings and log: they quote values, which may name a patient."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def is_dicom_file(path: Path) -> bool:
    """Whether a file starts as DICOM Part 10 files do."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def value_of(dataset: pydicom.Dataset, keyword: str) -> Any:
    """The value of an element; None where it is absent, empty or cannot be parsed."""
    try:
        value = dataset.get(keyword)
        return None if value is None or value == "" else value
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, NotImplementedError):
        return None


def number_of_frames(dataset: pydicom.Dataset) -> int:
    """Number of Frames, 1 where it is absent."""
    try:
        return max(int(value_of(dataset, "NumberOfFrames") or 1), 1)
    except (ValueError, TypeError):
        return 1
