"""Warp kernels that find large areas of pictures stuck at one value, many pictures at once.

Areas are grown by union of neighbours: every pixel points to another of its area, in the end to
the first of them. What comes of it does not depend on the order of the threads.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func
def _root(parents: wp.array(dtype=int), pixel: int) -> int:  # type: ignore[valid-type]
    at = pixel
    while parents[at] != at:
        at = parents[at]
    return at


@wp.func
def _join(parents: wp.array(dtype=int), first: int, second: int) -> int:  # type: ignore[valid-type]
    a = _root(parents, first)
    b = _root(parents, second)
    while a != b:
        if a < b:
            lower = a
            a = b
            b = lower
        # Another thread may have joined a to something lower meanwhile.
        before = wp.atomic_min(parents, a, b)
        if before == a:
            return 0
        a = _root(parents, before)
        b = _root(parents, b)
    return 0


@wp.kernel
def join(
    kinds: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    columns: int,
    rows: int,
    begin: int,
    parents: wp.array(dtype=int),  # type: ignore[valid-type]
) -> None:
    """Join each pixel whose kind is not 0 to its neighbours of the same kind."""
    i = begin + int(wp.tid())  # type: ignore[arg-type]
    kind = kinds[i]
    if kind == wp.uint8(0):
        return
    place = i % (columns * rows)
    if place % columns > 0 and kinds[i - 1] == kind:
        _join(parents, i, i - 1)
    if place >= columns and kinds[i - columns] == kind:
        _join(parents, i, i - columns)


@wp.kernel
def count(
    kinds: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    parents: wp.array(dtype=int),  # type: ignore[valid-type]
    begin: int,
    sizes: wp.array(dtype=int),  # type: ignore[valid-type]
) -> None:
    """Count the pixels of each area, at its first pixel."""
    i = begin + int(wp.tid())  # type: ignore[arg-type]
    if kinds[i] != wp.uint8(0):
        wp.atomic_add(sizes, _root(parents, i), 1)


@wp.kernel
def spread(
    kinds: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    parents: wp.array(dtype=int),  # type: ignore[valid-type]
    sizes: wp.array(dtype=int),  # type: ignore[valid-type]
    columns: int,
    rows: int,
    least: int,
    grow: int,
    begin: int,
    valid: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
) -> None:
    """Take from ``valid`` what is at most ``grow`` steps from an area of ``least`` pixels."""
    i = begin + int(wp.tid())  # type: ignore[arg-type]
    if kinds[i] == wp.uint8(0):
        return
    if sizes[_root(parents, i)] < least:
        return
    place = i % (columns * rows)
    first = i - place
    row = place // columns
    column = place - row * columns
    for dv in range(-grow, grow + 1):
        reach = grow - wp.abs(dv)
        v = row + dv
        if v >= 0 and v < rows:
            for u in range(wp.max(column - reach, 0), wp.min(column + reach, columns - 1) + 1):
                valid[first + v * columns + u] = wp.uint8(0)
