"""Clouds as PLY files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gaussian_scenes import random_cloud

from RadGSRegLib.errors import InputError
from RadGSRegLib.gaussians import read_ply, write_ply


def test_round_trip(tmp_path: Path) -> None:
    cloud = random_cloud(17, dtype=torch.float32)
    write_ply(tmp_path / "cloud.ply", cloud)
    again = read_ply(tmp_path / "cloud.ply")
    for one, other in zip(cloud.tensors, again.tensors, strict=True):
        assert torch.equal(one, other)
    assert [p.name for p in tmp_path.iterdir()] == ["cloud.ply"]


def test_an_empty_cloud_goes_both_ways(tmp_path: Path) -> None:
    cloud = random_cloud(2).select(torch.zeros(2, dtype=torch.bool))
    write_ply(tmp_path / "cloud.ply", cloud)
    assert len(read_ply(tmp_path / "cloud.ply")) == 0


def test_other_properties_and_doubles_are_read_over(tmp_path: Path) -> None:
    import numpy as np

    from RadGSRegLib.gaussians.ply import PROPERTIES

    names = ["nx", *reversed(PROPERTIES)]
    table = np.ones(3, np.dtype([(name, "<f8") for name in names]))
    table["y"] = [1.0, 2.0, 3.0]
    header = ["ply", "format binary_little_endian 1.0", "element vertex 3"]
    header += [f"property double {name}" for name in names]
    header += ["element face 0", "property list uchar int vertex_indices", "end_header", ""]
    path = tmp_path / "other.ply"
    path.write_bytes("\n".join(header).encode() + table.tobytes())
    assert read_ply(path).means[:, 1].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda b: b"solid", "not a PLY"),
        (lambda b: b.replace(b"binary_little_endian", b"ascii"), "binary little-endian"),
        (lambda b: b[:-4], "ends before"),
        (lambda b: b.replace(b"density", b"opacity"), "no property density"),
        (lambda b: b.replace(b"float x", b"quark x"), "unknown type"),
        (lambda b: b[:-4] + b"\x00\x00\xc0\x7f", "not finite"),
        (lambda b: b[:-4] + b"\x00\x00\x80\xbf", "negative density"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, damage, sentence: str) -> None:
    path = tmp_path / "cloud.ply"
    write_ply(path, random_cloud(4))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=sentence) as error:
        read_ply(path)
    assert "cloud.ply" in str(error.value)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_ply(tmp_path / "absent.ply")
    with pytest.raises(InputError, match="cannot be written"):
        write_ply(tmp_path / "no" / "folder.ply", random_cloud(1))
