"""The kernels compile for CUDA on a machine without a GPU, and a block of theirs can start."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from cubin import needs_of

import RadGSRegLib
from RadGSRegLib.system.warp_runtime import start_warp

PACKAGE = Path(RadGSRegLib.__file__).parent
# Turing, Ampere and Hopper: RTX 20 to 40, A40, H100, H200.
ARCHITECTURES = (75, 86, 90)
# 65536 registers of a multiprocessor are then enough for 512 threads, eight blocks.
REGISTERS = 128
# What each of eight blocks has on Turing, in bytes.
SHARED = 65536 // 8


def kernel_modules() -> list[str]:
    """The modules of the library that define warp kernels."""
    files = [p for p in PACKAGE.rglob("*.py") if "@wp.kernel" in p.read_text(encoding="utf-8")]
    return sorted(".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in files)


@pytest.mark.parametrize("name", kernel_modules())
def test_kernels_compile_for_cuda(name: str, tmp_path: Path) -> None:
    wp = pytest.importorskip("warp")
    start_warp()
    module = importlib.import_module(name)
    kernels = [v for v in vars(module).values() if isinstance(v, wp.Kernel)]
    assert kernels
    paths = wp.compile_aot_module(module, arch=ARCHITECTURES, module_dir=tmp_path, use_ptx=False)
    assert len(paths) == len(ARCHITECTURES)
    for path in paths:
        binary = path.read_bytes()
        assert binary[:4] == b"\x7fELF"
        entries = set(re.findall(rb"[A-Za-z_]\w*_cuda_kernel_forward", binary))
        assert len(entries) == len(kernels)
        needs = needs_of(binary)
        assert len(needs) == len(kernels)
        for kernel, need in needs.items():
            assert 0 < need.registers <= REGISTERS, kernel
            assert need.shared <= SHARED, kernel
            # Neither spilt registers nor local arrays, which lie in the slow memory.
            assert need.stack == 0, kernel


def test_all_kernel_modules_are_known() -> None:
    assert len(kernel_modules()) >= 5


def test_a_kernel_that_needs_too_much_is_noticed(tmp_path: Path) -> None:
    wp = pytest.importorskip("warp")
    start_warp()
    module = importlib.import_module("greedy_kernel")
    (path,) = wp.compile_aot_module(module, arch=[90], module_dir=tmp_path, use_ptx=False)
    (need,) = needs_of(path.read_bytes()).values()
    assert need.stack >= 4 * 200
