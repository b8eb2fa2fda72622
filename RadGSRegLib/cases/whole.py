"""Whether an image file is whole: its length and, where it is compressed, its checksum.

ITK reads what is there of a NIfTI file that is cut short, and of a MetaImage whose checksum fails.
"""

import bz2
import gzip
import math
import re
import zlib
from pathlib import Path

from ..errors import InputError
from . import bounds

_NRRD_BYTES = {
    "char": 1, "int8": 1, "uchar": 1, "uint8": 1, "short": 2, "int16": 2, "ushort": 2, "uint16": 2,
    "int": 4, "int32": 4, "uint": 4, "uint32": 4, "longlong": 8, "int64": 8, "ulonglong": 8,
    "uint64": 8, "float": 4, "double": 8,
}  # fmt: skip
_META_BYTES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "long": 4, "ulong": 4,
    "long_long": 8, "ulong_long": 8, "float": 4, "double": 8,
}  # fmt: skip
# Spaces whose axes are the patient's.
_PATIENT_SPACES = {
    "left-posterior-superior", "lps", "right-anterior-superior", "ras",
    "left-anterior-superior", "las",
}  # fmt: skip


def damaged(path: Path, how: str) -> InputError:
    """The refusal of a file whose pixels are not all there, or not as they were written."""
    return InputError(path, f"is cut short or damaged ({how})", "copy or export it again")


def file_bytes(path: Path) -> bytes:
    """The bytes of a file. InputError where they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error


def unpacked(data: bytes, encoding: str, path: Path) -> bytes:
    """Data out of ``gzip``, ``zlib`` or ``bzip2``; InputError where length or checksum is wrong."""
    try:
        if encoding == "gzip":
            return gzip.decompress(data)
        if encoding == "bzip2":
            return bz2.decompress(data)
        engine = zlib.decompressobj()
        out = engine.decompress(data) + engine.flush()
        if not engine.eof:
            raise EOFError
        return out
    except EOFError as error:
        raise damaged(path, "the compressed data end too early") from error
    except (OSError, ValueError, zlib.error) as error:
        raise damaged(path, "the checksum of the compressed data is wrong") from error


def check_length(path: Path, needed: int, there: int) -> None:
    """InputError unless a file holds as many bytes of pixels as its header says."""
    if there < needed:
        raise damaged(path, f"it holds {there} of {needed} bytes of pixels")
    if there > needed + bounds.TRAILING_BYTES:
        raise InputError(
            path, f"holds {there} bytes of pixels, but its header says {needed}", "export it again"
        )


def _type(text: str) -> str:
    """An NRRD type by a short name: ``unsigned short`` and ``uint16_t`` are known."""
    words = re.sub(r"_t$", "", re.sub(r"\bsigned\s+", "", text.strip().lower())).split()
    unsigned = "unsigned" in words
    plain = "".join(w for w in words if w != "unsigned") or "int"
    for long in ("shortint", "longlongint"):
        plain = plain.replace(long, long[:-3])
    return ("u" if unsigned else "") + plain


def _nrrd(path: Path, data: bytes) -> list[Path]:
    end = re.search(rb"\r?\n\r?\n", data)
    head = data[: end.start()] if end else data
    fields = {}
    for line in head.decode("latin-1").splitlines()[1:]:
        key, colon, value = line.partition(": ")
        if colon and not line.startswith("#"):
            fields[key.strip().lower().replace(" ", "")] = value.strip()
    _check_nrrd_space(path, fields)
    named = fields.get("datafile")
    if named and (named.upper().startswith("LIST") or "%" in named):
        raise InputError(path, "is spread over several files", "save it as one file")
    source = path.parent / named if named else path
    pixels = file_bytes(source) if named else data[end.end() if end else len(data) :]
    encoding = fields.get("encoding", "raw").lower()
    encoding = {"gz": "gzip", "bz2": "bzip2"}.get(encoding, encoding)
    if encoding in ("gzip", "bzip2"):
        pixels = unpacked(pixels, encoding, source)
    size = _NRRD_BYTES.get(_type(fields.get("type", "")))
    counts = re.findall(r"\d+", fields.get("sizes", ""))
    skips = "byteskip" in fields or "lineskip" in fields
    if encoding in ("raw", "gzip", "bzip2") and size and counts and not skips:
        check_length(source, size * math.prod(map(int, counts)), len(pixels))
    return [source] if named else []


def _check_nrrd_space(path: Path, fields: dict[str, str]) -> None:
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))) - {"mm", "", "???"}
    if units:
        raise InputError(
            path, f"has {', '.join(sorted(units))} as space units", "save it in millimetres"
        )


def nrrd_has_place(path: Path) -> bool:
    """Whether an NRRD's header says how its axes lie in the patient (LPS, RAS or LAS)."""
    with path.open("rb") as stream:
        head = re.split(rb"\r?\n\r?\n", stream.read(2**16))[0].decode("latin-1").lower()
    space = re.search(r"^space:\s*(\S+)", head, re.MULTILINE)
    return space is not None and space[1].removesuffix("-time") in _PATIENT_SPACES


def _meta_image(path: Path, data: bytes) -> list[Path]:
    head = re.search(rb"ElementDataFile\s*=\s*([^\r\n]*)\r?\n?", data)
    if head is None:
        raise damaged(path, "its header has no ElementDataFile")
    lines = data[: head.start()].decode("latin-1").splitlines()
    pairs = [line.partition("=") for line in lines]
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    named = head[1].decode("utf-8", "replace").strip()
    if named.upper().startswith("LIST") or "%" in named:
        raise InputError(path, "is spread over several files", "save it as one file")
    local = named.upper() == "LOCAL"
    source = path if local else path.parent / named
    pixels = data[head.end() :] if local else file_bytes(source)
    if fields.get("compresseddata", "").lower() in ("true", "1"):
        pixels = unpacked(pixels, "gzip" if pixels[:2] == b"\x1f\x8b" else "zlib", source)
    elif fields.get("headersize", "0") not in ("", "0"):
        return [] if local else [source]
    kind = fields.get("elementtype", "").lower().removeprefix("met_").removesuffix("_array")
    size, counts = _META_BYTES.get(kind), re.findall(r"\d+", fields.get("dimsize", ""))
    channels = fields.get("elementnumberofchannels", "1")
    if size and counts and channels.isdigit():
        check_length(source, size * int(channels) * math.prod(map(int, counts)), len(pixels))
    return [] if local else [source]


def check_whole(path: Path) -> list[Path]:
    """InputError where an NRRD or a MetaImage is cut short or damaged; other kinds are not judged.

    Returns the files beside it that hold its pixels.
    """
    with path.open("rb") as stream:
        start = stream.read(512)
    if start.startswith(b"NRRD000"):
        return _nrrd(path, file_bytes(path))
    if path.suffix.lower() in (".mha", ".mhd") or b"ObjectType = Image" in start:
        return _meta_image(path, file_bytes(path))
    return []
