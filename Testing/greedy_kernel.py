"""A kernel whose local array is too large for registers, which a test has to notice."""

import warp as wp

wp.set_module_options({"enable_backward": False})

_SNIPPET = """
    float kept[200];
    for (int n = 0; n < 200; ++n) kept[n] = numbers.data[n];
    float total = 0.0f;
    for (int n = 0; n < 200; ++n) total += kept[((int)kept[n]) % 200];
    numbers.data[i] = total;
"""


@wp.func_native(_SNIPPET)
def shuffled(numbers: wp.array(dtype=float), i: int) -> None: ...  # type: ignore[valid-type]


@wp.kernel
def greedy(numbers: wp.array(dtype=float)) -> None:  # type: ignore[valid-type]
    shuffled(numbers, wp.tid())
