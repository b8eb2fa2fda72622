"""TIFF, PNG and JPEG: all grey values as they were stored, the right way round.

ITK reads tiled TIFF as noise, some orientations not at all, and a broken JPEG without a word.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .quiet import quiet_readers
from .whole import damaged, file_bytes

_STARTS = {
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "jpeg": (b"\xff\xd8\xff",),
}
# Grey, or colours that may all be alike.
_PILLOW_GREY = {"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_PILLOW_COLOURS = {"LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "P": "RGBA", "PA": "RGBA"}
_TURNED = {
    2: "mirrored", 3: "turned by 180 degrees", 4: "upside down", 5: "mirrored and turned",
    6: "turned by 90 degrees", 7: "mirrored and turned", 8: "turned by 90 degrees",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """The frames of a file, ``array`` (frames, rows, columns) or (..., channels), as to be shown.

    ``white`` is the stored value that is black on screen where the lowest is white (a TIFF's
    min-is-white): a screen shows ``white - array``. The channels are grey, grey and alpha, or
    three colours with or without alpha.
    """

    array: NDArray[Any]
    white: float | None = None
    notes: tuple[str, ...] = ()


def picture_kind(path: Path) -> str | None:
    """``tiff``, ``png`` or ``jpeg`` by a file's first bytes; None for others."""
    with path.open("rb") as stream:
        start = stream.read(8)
    return next((kind for kind, ways in _STARTS.items() if start.startswith(ways)), None)


def read_picture(path: Path) -> Picture:
    """A TIFF (also tiled, BigTIFF, of several pages), a PNG or a JPEG.

    Its orientation (TIFF's tag, EXIF) is applied and noted. Raises InputError for what is cut
    short, damaged, black and white only, or kept in a way that is no picture of grey values.
    """
    with quiet_readers():
        picture = _read_tiff(path) if picture_kind(path) == "tiff" else _read_pillow(path)
    channels = picture.array.shape[3] if picture.array.ndim == 4 else 1
    if channels in (2, 4):
        alpha = picture.array[..., -1]
        clear = "is partly transparent; its transparency is left out"
        notes = (*picture.notes, clear) if (alpha != alpha.flat[0]).any() else picture.notes
        return Picture(picture.array[..., :-1], picture.white, notes)
    return picture


def _turn(array: NDArray[Any], orientation: int, path: Path) -> tuple[NDArray[Any], list[str]]:
    """Frames (frames, rows, columns[, channels]) as an orientation of 1 to 8 wants them shown."""
    if orientation in (0, 1):
        return array, []
    if orientation not in _TURNED:
        raise InputError(path, f"has an unknown orientation ({orientation})", "save it anew")
    if orientation >= 5:
        array = array.swapaxes(1, 2)
    flips = {2: (2,), 3: (1, 2), 4: (1,), 5: (), 6: (2,), 7: (1, 2), 8: (1,)}[orientation]
    how = f"is stored {_TURNED[orientation]} (orientation {orientation}); it is shown upright"
    return np.flip(array, flips), [how]


def _read_tiff(path: Path) -> Picture:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return _pages(file, path)
    except InputError:
        raise
    except Exception as error:  # bytes from anywhere make the parser raise anything
        if "imagecodecs" in str(error) or "not supported" in str(error):
            raise InputError(
                path, "is compressed in a way that is not known here", "save it uncompressed"
            ) from error
        raise damaged(path, "it cannot be read to its end") from error


def _pages(file: Any, path: Path) -> Picture:
    """The largest pictures of a TIFF; smaller ones are previews."""
    areas = [s.keyframe.imagewidth * s.keyframe.imagelength for s in file.series]
    series = [s for s, area in zip(file.series, areas, strict=True) if area == max(areas)]
    page = series[0].keyframe
    notes = ["holds smaller pictures too, which are left out"] if len(series) < len(areas) else []
    _check_page(page, path)
    if any(s.keyframe.shape != page.shape or s.dtype != series[0].dtype for s in series):
        raise InputError(path, "holds pictures that differ in form", "save the one that is meant")
    length = path.stat().st_size
    for s in series:
        for p in s.pages:
            if p is None:
                continue  # its pixels follow those of the page before
            ends = [a + n for a, n in zip(p.dataoffsets, p.databytecounts, strict=True)]
            if max(ends) > length or not all(p.dataoffsets) or not all(p.databytecounts):
                raise damaged(path, "pixels are missing")
        if s.dataoffset is not None and s.dataoffset + s.nbytes > length:
            raise damaged(path, "pixels are missing")
    orientation = {int(s.keyframe.tags.valueof(274, default=1)) for s in series}
    if len(orientation) > 1:
        raise InputError(path, "holds pictures that are turned differently", "save them alike")
    array = np.concatenate([s.asarray().reshape(-1, *page.shape) for s in series])
    if page.axes.startswith("S"):
        array = np.moveaxis(array, 1, -1)
    if page.photometric == 3:
        array = np.moveaxis(np.asarray(page.colormap)[:, array], 0, -1)
    array, turned = _turn(array, orientation.pop(), path)
    white = None
    if page.photometric == 0:
        unsigned = array.dtype.kind == "u"
        white = 2.0**page.bitspersample - 1 if unsigned else float(array.max()) + float(array.min())
    return Picture(array, white, (*notes, *turned))


def _check_page(page: Any, path: Path) -> None:
    """InputError for pages that hold no grey values, and none that may be colours all alike."""
    if page.bitspersample == 1:
        raise _two_valued(path)
    if page.dtype is None or page.dtype.kind not in "uif":
        raise InputError(path, "holds no grey values", "save it as a grey TIFF")
    # 0, 1: grey; 2: colours; 3: a palette; 6: YCbCr, which the decoder of JPEG turns into colours.
    known = page.photometric in (0, 1, 2, 3) or (page.photometric == 6 and page.compression == 7)
    if not known or page.axes not in ("YX", "YXS", "SYX") or page.samplesperpixel > 4:
        raise InputError(path, "holds no grey values", "save it as a grey TIFF")


def _two_valued(path: Path) -> InputError:
    return InputError(path, "holds black and white only, no grey values of an X-ray")


def _read_pillow(path: Path) -> Picture:
    from PIL import Image

    data = file_bytes(path)
    try:
        with Image.open(path) as image:
            frames = []
            orientation = int(image.getexif().get(0x0112, 1))
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                image.load()
                frames.append(_pillow_frame(image, path))
    except InputError:
        raise
    except Exception as error:  # as above
        raise damaged(path, "it cannot be read to its end") from error
    array = np.stack(frames)
    # Colour type 2, 4 or 6 with 16 bits: Pillow keeps only eight of them.
    if data.startswith(_STARTS["png"]) and data[24] == 16 and data[25] in (2, 4, 6):
        import imagecodecs

        array = np.asarray(imagecodecs.png_decode(data))[None]
    array, turned = _turn(array, orientation, path)
    return Picture(array, None, tuple(turned))


def _pillow_frame(image: Any, path: Path) -> NDArray[Any]:
    if image.mode == "1":
        raise _two_valued(path)
    if image.mode in _PILLOW_GREY:
        return np.asarray(image)
    if image.mode in _PILLOW_COLOURS:
        return np.asarray(image.convert(_PILLOW_COLOURS[image.mode]))
    raise InputError(path, "is a colour image, no X-ray")
