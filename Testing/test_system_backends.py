"""A backend as a guest: a file of its own, chosen like those of the house."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian_scenes import camera, placed, random_cloud

from RadGSRegLib.drr import PROJECTORS, project_volume
from RadGSRegLib.gaussians import (
    BODY_RASTERIZERS,
    RASTERIZERS,
    VOXELIZERS,
    Bodies,
    available_backends,
    rasterize,
    rasterize_bodies,
    voxelize,
)
from RadGSRegLib.geometry import Volume
from RadGSRegLib.system import Backend, preferring

TOY = """
import torch

def rasterize(cloud_or_bodies, inverse, pose, *rest):
    return torch.full((), 7.0)

def voxelize(cloud, matrix, size, cutoff, widen):
    return torch.full((), 8.0)

def project(voxels, camera_to_index, directions, lattice):
    return 9.0 / directions.norm(dim=1)
"""

EVERY = (RASTERIZERS, VOXELIZERS, BODY_RASTERIZERS, PROJECTORS)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Suits float16 alone, so that nothing else meets it."""
    (tmp_path / "toy_backend_of_a_guest.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    guest = Backend("toy", "toy_backend_of_a_guest", lambda device, dtype: dtype == torch.float16)
    for backends in EVERY:
        backends.add(guest)
    yield guest
    for backends in EVERY:
        backends.remove("toy")


def test_a_guest_is_used_for_every_purpose_where_it_is_asked_for(toy: Backend) -> None:
    intrinsic, pose = camera(32)
    cloud = random_cloud(5, dtype=torch.float32)
    assert float(rasterize(cloud, intrinsic, pose, (32, 32), backend="toy")) == 7.0
    scene = placed([intrinsic], [pose], [np.eye(4)], (32, 32))
    picture = rasterize_bodies(Bodies((cloud,)), *scene, backend="toy")
    assert float(picture) == 7.0
    assert float(voxelize(cloud, np.eye(4), (3, 3, 3), backend="toy")) == 8.0
    volume = Volume(np.ones((3, 3, 3), dtype=np.float32), np.eye(4))
    image = project_volume(volume, intrinsic, pose, (32, 32), backend="toy")
    torch.testing.assert_close(image, torch.full((32, 32), 9.0))


def test_a_guest_is_taken_by_itself_where_it_suits(toy: Backend) -> None:
    intrinsic, pose = camera(32)
    half = random_cloud(5, dtype=torch.float16)
    assert float(rasterize(half, intrinsic, pose, (32, 32))) == 7.0
    assert rasterize(half.to(dtype=torch.float32), intrinsic, pose, (32, 32)).shape == (32, 32)
    assert available_backends()["toy"] == ""


def test_what_does_not_work_is_passed_over_or_says_why() -> None:
    device, dtype = torch.device("cpu"), torch.float64
    PROJECTORS.add(Backend("ill", "cmath", problem=lambda: "it is ill"))
    try:
        assert PROJECTORS.choose("auto", device, dtype).__name__ != "cmath"
        assert available_backends()["ill"] == "it is ill"
        with pytest.raises(RuntimeError, match="ill is not available: it is ill"):
            PROJECTORS.choose("ill", device, dtype)
        with pytest.raises(
            ValueError, match="'other' to project; there are auto, torch, warp, ill"
        ):
            PROJECTORS.choose("other", device, dtype)
    finally:
        PROJECTORS.remove("ill")


def test_float64_stays_with_the_reference() -> None:
    for backends in EVERY:
        module = backends.choose("auto", torch.device("cpu"), torch.float64)
        assert module.__name__.rpartition(".")[2].startswith("torch")


def test_a_preferred_backend_is_what_auto_means_where_it_suits() -> None:
    cpu, cuda, single = torch.device("cpu"), torch.device("cuda"), torch.float32

    def chosen(device: torch.device = cpu, dtype: torch.dtype = single) -> list[str]:
        names = [b.choose("auto", device, dtype).__name__.rpartition(".")[2] for b in EVERY]
        return [name.partition("_")[0] for name in names]

    by_itself = chosen()
    with preferring("torch"):
        assert chosen() == ["torch"] * len(EVERY)
        with preferring("warp"):
            assert chosen() == ["warp"] * len(EVERY)
            assert chosen(dtype=torch.float64) == ["torch"] * len(EVERY)
            # In another thread too: a command's work is done in many.
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(chosen).result() == ["warp"] * len(EVERY)
        assert chosen() == ["torch"] * len(EVERY)
    assert chosen() == by_itself
    RASTERIZERS.add(Backend("shy", "cmath", lambda device, _: device == cuda, by_itself=False))
    try:
        assert chosen(cuda)[0] != "cmath"
        with preferring("shy"):
            assert chosen(cuda)[0] == "cmath"
            assert chosen(cuda)[1:] == by_itself[1:]
            assert chosen(cpu) == by_itself
    finally:
        RASTERIZERS.remove("shy")
