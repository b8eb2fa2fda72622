"""What the measurements of speed count is what a brute count finds."""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian_scenes import blob, camera, leaves, placed, random_cloud

sys.path.insert(0, str(Path(__file__).resolve().parent / "benchmarks"))

from measuring import kernel_work, ray_work, scenes
from measuring.ceilings import Ceiling, ceiling_of, ceiling_runs
from measuring.counting import counted
from measuring.growth import fitted
from measuring.kernel_work import launches, operations
from measuring.timing import Lap, take_turns

from RadGSRegLib.drr import occupied_cells, project_volume, project_volume_with_jacobian
from RadGSRegLib.gaussians import (
    Bodies,
    GaussianCloud,
    rasterize,
    rasterize_bodies,
    rasterize_bodies_with_jacobian,
    rasterize_with_jacobian,
    voxelize,
    warp_backend,
)
from RadGSRegLib.gaussians.tiles import TILE, list_tiles
from RadGSRegLib.geometry import Camera, inverse_intrinsic
from RadGSRegLib.simulation.drawing import Drawn, draw_case
from RadGSRegLib.simulation.voxels import Voxels
from RadGSRegLib.system import side_by_side
from RadGSRegLib.tensors import without_host_reads
from RadGSRegLib.training import samples
from RadGSRegLib.training.samples import SampleOptions, draw_samples
from RadGSRegLib.training.subjects import Subject

CPU = torch.device("cpu")
SIZE = (45, 37)
CUTOFF = 4.5


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def cloud() -> GaussianCloud:
    """More Gaussians than a second thread is worth."""
    return random_cloud(300, dtype=torch.float32)


def pairs_by_rays(cloud: GaussianCloud, intrinsic: np.ndarray, pose: np.ndarray) -> int:
    """Pairs of Gaussian and pixel whose ray comes within the cut, each ray followed by itself."""
    means, factors = cloud.means.double().numpy(), cloud.precision_factors().double().numpy()
    centres = means @ pose[:3, :3].T + pose[:3, 3]
    count = 0
    for row in range(SIZE[1]):
        for column in range(SIZE[0]):
            ray = np.linalg.inv(intrinsic) @ [column, row, 1.0]
            # In each Gaussian's own axes, in standard deviations.
            q = np.einsum("nij,nj->ni", factors @ pose[:3, :3].T, -centres)
            w = factors @ pose[:3, :3].T @ ray
            nearest = np.cross(q, w)
            distance2 = (nearest**2).sum(1) / (w**2).sum(1)
            count += int((distance2 <= CUTOFF**2).sum())
    return count


def test_pairs_of_gaussians_and_pixels(cloud: GaussianCloud) -> None:
    intrinsic, pose = camera(40)
    wanted = pairs_by_rays(cloud, intrinsic, pose)
    leaf = leaves(cloud)
    image = rasterize(leaf, intrinsic, pose, SIZE)
    centre = [1.0, 2.0, 3.0]
    runs = {
        "scatter_values": lambda: rasterize(cloud, intrinsic, pose, SIZE),
        "scatter_derivatives": lambda: rasterize_with_jacobian(
            cloud, intrinsic, pose, SIZE, centre
        ),
        "gather_gradients": lambda: image.sum().backward(),
    }
    each = {
        "scatter_values": kernel_work.VALUE,
        "scatter_derivatives": kernel_work.DERIVATIVE,
        "gather_gradients": kernel_work.BACKWARD,
    }
    for name, run in runs.items():
        work = launches(run)
        pairs = work.pairs[f"gaussians.warp_kernels.{name}"]
        # A pixel at the very edge of a footprint may fall to either side.
        assert pairs.needed == pytest.approx(wanted, abs=3)
        assert pairs.visited > pairs.needed
        assert pairs.visited % 8 == 0
        turned = kernel_work.TURN * SIZE[0] * SIZE[1] if name == "scatter_derivatives" else 0
        assert work.operations == pytest.approx(each[name] * pairs.needed + turned)
        assert not work.unknown


def test_pairs_of_pixels_that_gather(cloud: GaussianCloud) -> None:
    intrinsic, pose = camera(40)
    inverse, matrix = inverse_intrinsic(intrinsic), torch.as_tensor(pose).float()

    def gather() -> None:
        warp_backend.rasterize(cloud, inverse, matrix, SIZE, CUTOFF, lister=list_tiles)

    pairs = launches(gather).pairs["gaussians.warp_gather_kernels.gather_values"]
    assert pairs.needed == pytest.approx(pairs_by_rays(cloud, intrinsic, pose), abs=3)
    assert pairs.needed < pairs.visited < len(cloud) * SIZE[0] * SIZE[1]


def test_pairs_of_tiles_are_their_lists_times_their_pixels() -> None:
    """Of one Gaussian that reaches every tile all pixels are visited."""
    wide = GaussianCloud(
        torch.zeros(1, 3), torch.full((1, 3), 60.0), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1)
    )
    intrinsic, pose = camera(40)
    inverse, matrix = inverse_intrinsic(intrinsic), torch.as_tensor(pose).float()
    work = launches(lambda: warp_backend.rasterize(wide, inverse, matrix, SIZE, 4.5, list_tiles))
    assert SIZE[0] % TILE
    assert work.visited == SIZE[0] * SIZE[1]


def test_pairs_of_bodies_whose_pixels_gather(cloud: GaussianCloud) -> None:
    intrinsic, pose = camera(40)
    halves = [cloud.select(torch.arange(n, n + 150)) for n in (0, 150)]
    scene = placed([intrinsic] * 3, [pose] * 3, [np.eye(4)] * 2, SIZE)
    about = (Bodies(tuple(halves)), *scene)
    centre = torch.zeros(3, dtype=torch.float64)
    wanted = 3 * pairs_by_rays(cloud, intrinsic, pose)
    runs = {
        "values": (lambda: rasterize_bodies(*about), kernel_work.VALUE),
        "derivatives": (
            lambda: rasterize_bodies_with_jacobian(*about, centre),
            kernel_work.DERIVATIVE,
        ),
    }
    for name, (run, each) in runs.items():
        with without_host_reads():
            work = launches(run)
        turns = name == "derivatives"
        assert work.kernels.total() == 2 + turns
        assert not work.unknown
        pairs = work.pairs[f"gaussians.warp_body_kernels.gather_body_{name}"]
        assert pairs.needed == pytest.approx(wanted, abs=9)
        assert pairs.visited == 3 * len(cloud) * SIZE[0] * SIZE[1]
        set_up = 3 * len(cloud) * (kernel_work.SET_UP + kernel_work.REACH)
        # Three views of two bodies.
        turned = turns * 6 * SIZE[0] * SIZE[1] * kernel_work.TURN
        assert work.operations == pytest.approx(each * pairs.needed + set_up + turned)


def test_pairs_of_gaussians_and_voxels(cloud: GaussianCloud) -> None:
    matrix = np.diag([3.0, 2.5, 4.0, 1.0])
    matrix[:3, 3] = [-50.0, -45.0, -20.0]
    size = (30, 33, 11)
    k, j, i = np.mgrid[: size[2], : size[1], : size[0]]
    points = np.stack([i, j, k], -1).reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    offsets = points[None] - cloud.means.double().numpy()[:, None]
    factors = cloud.precision_factors().double().numpy()
    distances = (np.einsum("nij,npj->npi", factors, offsets) ** 2).sum(-1)
    wanted = int((distances <= CUTOFF**2).sum())
    leaf = leaves(cloud)
    volume = voxelize(leaf, matrix, size, widen=False)
    forward = launches(lambda: voxelize(cloud, matrix, size, widen=False))
    backward = launches(lambda: volume.sum().backward())
    for work, each in ((forward, kernel_work.VOXEL), (backward, kernel_work.VOXEL_BACKWARD)):
        assert work.needed == pytest.approx(wanted, abs=3)
        assert work.operations == pytest.approx(each * work.needed)
        assert work.visited % 8 == 0


def test_samples_of_rays() -> None:
    volume, (intrinsic, pose) = blob(), camera(24)
    volume.array[4:9, 3:20, 5:18] = 0.0
    size, step = (24, 20), 1.1
    to_index = np.linalg.inv(pose @ volume.index_to_physical)
    cells = occupied_cells(volume)
    inside = needed = 0
    for row in range(size[1]):
        for column in range(size[0]):
            ray = np.linalg.inv(intrinsic) @ [column, row, 1.0]
            for n in range(500, 900):
                place = to_index[:3, :3] @ (n * step * ray) + to_index[:3, 3]
                if (place > -1).all() and (place < volume.size).all():
                    inside += 1
                    i, j, k = np.floor(place + 1).astype(int)
                    needed += int(cells[k, j, i])
    voxels = torch.from_numpy(volume.array).float()
    shape = {"index_to_physical": volume.index_to_physical, "step_mm": step}
    plain = launches(lambda: project_volume(voxels, intrinsic, pose, size, **shape))
    assert plain.needed == plain.visited == pytest.approx(inside, rel=1e-3)
    assert plain.operations == kernel_work.SAMPLE * plain.needed
    jacobian = launches(
        lambda: project_volume_with_jacobian(
            voxels, intrinsic, pose, size, np.zeros(3), occupied=cells, **shape
        )
    )
    assert jacobian.visited == plain.visited
    assert jacobian.needed == pytest.approx(needed, rel=1e-3)
    assert jacobian.needed < 0.9 * jacobian.visited


def test_samples_of_simulated_rays() -> None:
    """Every ray of two X-rays followed step by step through each vertebra and the rest."""
    subject = scenes.subject(4.0)
    options = SampleOptions(realism="realistic", size_px=16, pixel_mm=8.0)
    work = launches(lambda: draw_samples([subject], options, [3]))
    assert not work.unknown
    drawn, cameras = drawing_of(subject, options, 3)
    scene = subject.on("cpu")
    parts = [(voxels, drawn.ct_to_world[n]) for n, voxels in scene.vertebrae.items()]
    inside = filled = 0
    for view in cameras:
        for voxels, pose in parts:
            cells = cells_on_rays(voxels, view, pose)
            inside += len(cells)
            filled += sum(int(voxels.cells[k, j, i]) for i, j, k in cells)
    pieces = work.pairs["simulation.ray_kernels.pieces"]
    assert inside > 1000
    assert pieces.visited == pytest.approx(inside, rel=0.002)
    assert pieces.needed == pytest.approx(filled, rel=0.01)
    assert pieces.needed < 0.9 * pieces.visited
    rest = work.pairs["simulation.ray_kernels.rest"]
    assert rest.needed == rest.visited > 0
    done = pieces.visited * ray_work.FIND + pieces.needed * (ray_work.FIND + ray_work.BLEND)
    done += rest.needed * (ray_work.FIND + ray_work.BLEND + ray_work.TRUNK)
    noise = ray_work.NOISE * 2 * 256
    assert work.operations == pytest.approx(done + noise)


def drawing_of(subject: Subject, options: SampleOptions, seed: int) -> tuple[Drawn, list[Camera]]:
    """What is drawn of a simulated pair, and the cameras that see it."""
    rng = np.random.default_rng(seed)
    rng.permutation(subject.surface_count)
    framing = samples._Framing(options, seed)
    parameters, around = samples.sample_parameters(options, seed), subject.on("cpu").surroundings
    drawn = draw_case(parameters, subject.centroids, subject.label, rng, around, framing)
    return drawn, list(drawn.cameras.values())


def cells_on_rays(voxels: Voxels, camera: Camera, pose: np.ndarray) -> list[tuple[int, int, int]]:
    """The cells that the samples of all of a camera's rays lie in."""
    to_index = np.linalg.inv(camera.world_to_camera @ pose @ voxels.index_to_physical)
    cells: list[tuple[int, int, int]] = []
    for row in range(camera.rows):
        for column in range(camera.columns):
            ray = np.linalg.inv(camera.intrinsic) @ [column, row, 1.0]
            depths = voxels.step * np.arange(1, int(1500 / voxels.step))
            places = depths[:, None] * (to_index[:3, :3] @ ray) + to_index[:3, 3]
            inside = (places >= 0.0).all(1) & (places <= np.array(voxels.size) - 1.001).all(1)
            cells += [tuple(place) for place in places[inside].astype(int)]
    return cells


def test_every_kernel_is_known_by_name() -> None:
    names = set(kernel_work.all_kernels())
    assert set(kernel_work._WORK) == names
    assert {"gaussians.warp_kernels.scatter_values", "drr.warp_kernels.project"} <= names


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("const float y = n * inv * (-0.5f / 32.0f);", 2),
        ("e *= e; e *= e;", 2),
        ("out[i + 1] += amplitude * value;", 2),
        ("value = n <= cut2 * m ? value : 0.0f;", 2),
        ("const float du = start + (float)i;  // start - i", 1),
        ("const int j = (int)(x + 1.0f) - 1; const float* p = v + 3 * j;", 0),
        ("float value = ::sqrtf(inv) * e; b = -a; c -= b / 3.0f;", 4),
    ],
)
def test_operations_of_a_source(source: str, wanted: int) -> None:
    assert operations(source) == wanted


def test_operations_of_a_pair() -> None:
    """As on paper: two quadratics of 4 each, an offset, a quotient, its use 2, a series of 10 and
    five squares, a root and its use, a comparison and its product; then a product and a sum."""
    assert kernel_work.VALUE == 4 + 4 + 1 + 1 + 2 + 10 + 5 + 2 + 2 + 2


def test_operations_of_torch() -> None:
    a, b = torch.rand(8, 12, 2, 2).unbind(2)
    x, y = torch.rand(30, 40), torch.rand(40, 50)
    signal = torch.rand(3, 16, 64)
    cases = [
        (lambda: x @ y, 2 * 30 * 40 * 50),
        (lambda: a + b, a.numel()),
        (lambda: (a * b).sum(), 2 * a.numel()),
        (lambda: a.reshape(-1)[3:].expand(2, -1), 0),
        (lambda: a.clone(), 0),
        (lambda: torch.fft.rfft2(signal), 2.5 * signal.numel() * math.log2(16 * 64)),
        (lambda: torch.fft.irfft(torch.fft.rfft(signal)), 2 * 2.5 * signal.numel() * math.log2(64)),
    ]
    for run, wanted in cases:
        assert counted(run).operations == wanted
    assert counted(lambda: x @ y).moved_bytes == 4 * (30 * 40 + 40 * 50 + 30 * 50)
    assert counted(lambda: x.expand(5, 30, 40) + 1.0).moved_bytes == 4 * 30 * 40 * (1 + 5)


def test_operations_on_other_threads_are_counted() -> None:
    x = torch.rand(30, 30)
    work = counted(lambda: side_by_side(lambda n: x @ x, range(3)))
    assert work.operations == 3 * 2 * 30**3


def test_busy_is_all_threads_together() -> None:
    lap = take_turns({"wait": lambda: time.sleep(0.05)}, CPU, rounds=1)["wait"][0]
    assert lap.busy < 0.5 * lap.wall

    def work() -> None:
        ends = time.thread_time() + 0.05
        while time.thread_time() < ends:
            pass

    def on_two_threads() -> None:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lap = take_turns({"work": on_two_threads}, CPU, rounds=1)["work"][0]
    assert 0.099 < lap.busy < 0.2


def test_exponents_of_power_laws() -> None:
    sizes = [100.0, 1.0, 10.0]
    growth = fitted(sizes, [3.0 * n**1.5 for n in sizes])
    assert growth.sizes == (1.0, 10.0, 100.0)
    assert growth.exponent == pytest.approx(1.5)
    bent = fitted([1.0, 10.0, 100.0], [1.0, 1.0, 100.0])
    assert bent.last == pytest.approx(2.0)
    assert bent.exponent == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two sizes"):
        fitted([1.0], [1.0])


def test_floors() -> None:
    ceiling = Ceiling(1, 1e9, {1000: 1e6, 10: 1e3, 100: 1e7})
    assert ceiling.floor_s(1e6, 1.0) == (1e-3, "arithmetic")
    assert ceiling.floor_s(1.0, 500.0) == (5e-4, "memory")
    assert ceiling.floor_s(1.0, 50.0) == (5e-6, "memory")  # in a cache
    assert ceiling.floor_s(1.0, 5000.0) == (5e-3, "memory")


def test_ceilings_are_of_the_work_that_was_timed() -> None:
    runs = ceiling_runs(CPU, 1, quick=True)
    assert counted(runs["product 1"]).operations == 2 * 768**3
    triad = next(run for name, run in runs.items() if name == "triad 262144 1")
    assert counted(triad).moved_bytes == pytest.approx(2**18, rel=1e-3)
    times = {name: [Lap(9.0, 2.0), Lap(0.1, 0.5)] for name in runs}
    ceiling = ceiling_of(times, CPU, 1)
    assert ceiling.operations_per_s == 4 * 768**3
    assert ceiling.bytes_per_s[2**18] == 2**19


def test_everything_takes_turns() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    times = take_turns(runs, CPU, rounds=3, at_least_s=0.0)
    assert {name: len(of) for name, of in times.items()} == {"a": 3, "b": 3}
    assert "".join(order) == "aabb" + "ab" + "ba" + "ab"
    assert len(take_turns(runs, CPU, rounds=3, at_least_s=0.0, most_s=0.0)["a"]) == 1
