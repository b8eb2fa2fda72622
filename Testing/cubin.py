"""What a cubin says of its kernels: registers, stack and shared memory of each, read from its ELF.

Section ``.nv.info`` holds pairs of a symbol's number and a value under the attributes below;
``.nv.shared.NAME`` is as long as a kernel's static shared memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_REGISTERS, _STACK = 0x2F, 0x12
_PAIR = 4


@dataclass
class Needs:
    """Of one kernel: registers per thread, bytes of stack per thread (spilt registers and local
    arrays), bytes of shared memory per block."""

    registers: int = 0
    stack: int = 0
    shared: int = 0


def needs_of(binary: bytes) -> dict[str, Needs]:
    """What each kernel of a cubin needs, by its name."""
    sections = _sections(binary)
    symbols, names = sections[".symtab"], sections[".strtab"]
    out: dict[str, Needs] = {}
    info = sections[".nv.info"]
    place = 0
    while place + _PAIR <= len(info):
        kind, attribute, length = struct.unpack_from("<BBH", info, place)
        place += _PAIR
        if kind != _PAIR:
            continue
        if attribute in (_REGISTERS, _STACK):
            symbol, value = struct.unpack_from("<II", info, place)
            needs = out.setdefault(
                _text(names, struct.unpack_from("<I", symbols, 24 * symbol)[0]), Needs()
            )
            setattr(needs, "registers" if attribute == _REGISTERS else "stack", value)
        place += length
    for name, needs in out.items():
        needs.shared = len(sections.get(f".nv.shared.{name}", b""))
    return out


def _sections(binary: bytes) -> dict[str, bytes]:
    (start,) = struct.unpack_from("<Q", binary, 40)
    size, count, naming = struct.unpack_from("<HHH", binary, 58)
    heads = [struct.unpack_from("<IIQQQQ", binary, start + n * size) for n in range(count)]
    names = binary[heads[naming][4] :]
    nothing = 8  # the type of sections that fill no place in the file, as shared memory does
    return {
        _text(names, head[0]): bytes(head[5])
        if head[1] == nothing
        else binary[head[4] : head[4] + head[5]]
        for head in heads
    }


def _text(names: bytes, place: int) -> str:
    return names[place : names.index(b"\0", place)].decode()
