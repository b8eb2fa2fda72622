"""TIFF, PNG and JPEG as cameras, scanners and programs write them: read rightly or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from RadGSRegLib.cases import read_ct, read_segmentation, read_xray
from RadGSRegLib.errors import InputError

ROWS, COLUMNS = 70, 90
PIXELS = np.random.default_rng(0).integers(0, 65536, (ROWS, COLUMNS)).astype(np.uint16)
SMOOTH = np.uint8(ndimage.gaussian_filter(PIXELS / 257.0, 9, mode="wrap") * 3 % 256)
# What is stored so that it is shown as PIXELS, by TIFF 6.0's names of rows and columns.
STORED = {
    1: PIXELS,  # the first row is the top, the first column the left
    2: PIXELS[:, ::-1],  # top, right
    3: PIXELS[::-1, ::-1],  # bottom, right
    4: PIXELS[::-1],  # bottom, left
    5: PIXELS.T,  # the first row is the left, the first column the top
    6: PIXELS[:, ::-1].T,  # right, top
    7: PIXELS[::-1, ::-1].T,  # right, bottom
    8: PIXELS[::-1].T,  # left, bottom
}


def refused(path: Path, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read_xray(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


WAYS: dict[str, dict[str, Any]] = {
    "tiled": {"tile": (32, 32)},
    "tiled and deflated": {"tile": (32, 32), "compression": "zlib", "predictor": True},
    "LZW": {"compression": "lzw"},
    "PackBits": {"compression": "packbits"},
    "several strips": {"rowsperstrip": 16},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "JPEG 2000": {"compression": "jpeg2000"},
}


@pytest.mark.parametrize("way", WAYS)
def test_tiff_keeps_every_grey_value(tmp_path: Path, way: str) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS, **WAYS[way])
    np.testing.assert_array_equal(read_xray(path).pixels, PIXELS)
    assert read_xray(path).notes == ()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int16", "int32", "uint8"])
def test_tiff_of_every_type(tmp_path: Path, kind: str) -> None:
    pixels = (PIXELS.astype(np.float64) - 9000.25).astype(kind)
    tifffile.imwrite(tmp_path / "x.tif", pixels, tile=(32, 48))
    np.testing.assert_array_equal(read_xray(tmp_path / "x.tif").pixels, pixels.astype(np.float32))


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_tiff_orientations(tmp_path: Path, number: int, tile: Any) -> None:
    path = tmp_path / "x.tif"
    stored = np.ascontiguousarray(STORED[number])
    tifffile.imwrite(path, stored, tile=tile, extratags=[(274, "H", 1, number, True)])
    image = read_xray(path)
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert [f"orientation {number}" in note for note in image.notes] == [True] * (number > 1)


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientations(tmp_path: Path, number: int, suffix: str) -> None:
    """As Pillow itself shows them; a PNG has EXIF too."""
    exif = Image.Exif()
    exif[0x0112] = number
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(SMOOTH).save(path, exif=exif)
    from PIL import ImageOps

    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_xray(path).pixels, shown)
    assert len(read_xray(path).notes) == (number > 1)


def test_orientation_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS, extratags=[(274, "H", 1, 11, True)])
    refused(path, "unknown orientation")


@pytest.mark.parametrize("kind", ["uint16", "uint8", "float32"])
def test_lowest_is_white(tmp_path: Path, kind: str) -> None:
    pixels = PIXELS.astype(kind)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels, photometric="miniswhite")
    tops = {"uint16": 65535, "uint8": 255, "float32": float(pixels.min()) + float(pixels.max())}
    for image in (read_xray(path), read_xray(path, intensity="display")):
        np.testing.assert_array_equal(image.pixels, tops[kind] - pixels.astype(np.float64))
        assert ["white" in note for note in image.notes] == [True]
    measured = read_xray(path, intensity="attenuation")
    np.testing.assert_array_equal(measured.pixels, pixels)


def test_black_and_white_is_no_xray(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", PIXELS > 30000)
    refused(tmp_path / "x.tif", "black and white only")
    Image.fromarray(PIXELS > 30000).save(tmp_path / "x.png")
    refused(tmp_path / "x.png", "black and white only")


def test_pages_are_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    frames = np.stack([PIXELS, PIXELS[::-1], PIXELS // 2])
    for imagej in (False, True):
        tifffile.imwrite(path, frames, photometric="minisblack", imagej=imagej)
        refused(path, "holds 3 frames")
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(read_xray(path, number).pixels, frame)
    with tifffile.TiffWriter(path) as file:
        for frame in frames:
            file.write(frame, contiguous=False, metadata=None)
    np.testing.assert_array_equal(read_xray(path, 2).pixels, frames[2])


def test_previews_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS[::4, ::4], metadata=None)
        file.write(PIXELS, metadata=None)
    image = read_xray(path)
    np.testing.assert_array_equal(image.pixels, PIXELS)
    assert ["left out" in note for note in image.notes] == [True]


def test_grey_in_colours(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    colours = np.repeat(PIXELS[..., None], 3, axis=2)
    tifffile.imwrite(path, colours, photometric="rgb", tile=(32, 32))
    np.testing.assert_array_equal(read_xray(path).pixels, PIXELS)
    planes = np.ascontiguousarray(np.moveaxis(colours, -1, 0))
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_xray(path).pixels, PIXELS)
    colours[3, 4, 1] ^= 255
    tifffile.imwrite(path, colours, photometric="rgb")
    refused(path, "is a colour image")
    ramp = np.repeat((np.arange(256, dtype=np.uint16) * 257)[::-1][None], 3, axis=0)
    tifffile.imwrite(path, SMOOTH, photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(read_xray(path).pixels, 257.0 * (255 - SMOOTH))
    tifffile.imwrite(path, PIXELS, photometric="cfa")
    refused(path, "no grey values")


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_with_alpha_and_colours(tmp_path: Path, kind: str, channels: int) -> None:
    """Sixteen bits stay sixteen bits; a transparency is left out and said."""
    path = tmp_path / "x.png"
    full = np.iinfo(kind).max
    pixels = np.repeat(PIXELS.astype(kind)[..., None], channels, axis=2)
    if channels in (2, 4):
        pixels[..., -1] = full
    path.write_bytes(imagecodecs.png_encode(pixels))
    image = read_xray(path)
    np.testing.assert_array_equal(image.pixels, PIXELS.astype(kind))
    assert image.notes == ()
    if channels in (2, 4):
        pixels[:9, :, -1] = 0
        path.write_bytes(imagecodecs.png_encode(pixels))
        image = read_xray(path)
        np.testing.assert_array_equal(image.pixels, PIXELS.astype(kind))
        assert ["transparen" in note for note in image.notes] == [True]


def test_png_with_a_palette(tmp_path: Path) -> None:
    image = Image.fromarray(SMOOTH, mode="P")
    image.putpalette([255 - v for v in range(256) for _ in range(3)])
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_xray(tmp_path / "x.png").pixels, 255.0 - SMOOTH)
    image.putpalette([v * (c + 1) // 3 for v in range(256) for c in range(3)])
    image.save(tmp_path / "x.png")
    refused(tmp_path / "x.png", "is a colour image")


def _write(path: Path, kind: str) -> None:
    if kind.startswith("tif"):
        tifffile.imwrite(path, PIXELS, **WAYS.get(kind[5:], {}))
    else:
        Image.fromarray(SMOOTH if kind == "jpg" else PIXELS).save(path)


@pytest.mark.parametrize("kind", ["tif", *(f"tif, {w}" for w in WAYS), "png", "jpg"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_cut_short(tmp_path: Path, kind: str, share: float, capfd: Any) -> None:
    path = tmp_path / f"x.{kind[:3]}"
    _write(path, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, "is cut short or damaged|cannot be read")
    assert capfd.readouterr() == ("", "")


def test_missing_tiles_and_flipped_bits(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, PIXELS, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        counts = file.pages[0].tags["TileByteCounts"]
        counts.overwrite([0, *counts.value[1:]])
    refused(path, "pixels are missing")
    for suffix in ("tif", "png"):
        path = tmp_path / f"y.{suffix}"
        if suffix == "tif":
            tifffile.imwrite(path, PIXELS, compression="zlib")
        else:
            Image.fromarray(PIXELS).save(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)
        refused(path, "is cut short or damaged")


def test_a_stack_is_no_volume_without_voxel_size(tmp_path: Path) -> None:
    """ITK would take its voxels for cubes of a millimetre."""
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, np.stack([PIXELS, PIXELS // 2, PIXELS // 3]), photometric="minisblack")
    for read in (read_ct, read_segmentation):
        with pytest.raises(InputError, match="without voxel size"):
            read(path)
