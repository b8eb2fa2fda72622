"""Files of camera calibrations: MayaCam 1.0 and 2.0, DLT coefficients and OpenCV's YAML.

Each file is written here from a camera that is described in space (where the source is, which way
is right, down and forward), by the published description of its format; where points fall is
worked out from that description too, without a matrix of the library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ball import ball_case
from scipy.spatial.transform import Rotation

from RadGSRegLib import cli
from RadGSRegLib.cases import CAMERA_SOURCES, Ledger, View, read_views, write_views
from RadGSRegLib.errors import InputError

COLUMNS, ROWS = 320, 300  # those of the ball's pictures
POINTS = np.random.default_rng(5).uniform(-45, 45, (40, 3))


@dataclass(frozen=True)
class Described:
    """A camera in space: its source (mm), three unit vectors, focal lengths and centre (px)."""

    source: np.ndarray
    right: np.ndarray
    down: np.ndarray
    forward: np.ndarray
    focal: tuple[float, float] = (1810.0, 1850.0)
    centre: tuple[float, float] = (171.5, 138.25)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, 3) fall: column and row (N, 2), (0, 0) the middle of the first pixel."""
        rays = points - self.source
        depth = rays @ self.forward
        column = self.centre[0] + self.focal[0] * (rays @ self.right) / depth
        row = self.centre[1] + self.focal[1] * (rays @ self.down) / depth
        return np.column_stack([column, row])


def described(azimuth_deg: float, height_mm: float, roll_deg: float, **more: object) -> Described:
    """A camera 900 mm from the origin, which it looks at, rolled about its line of sight."""
    a, roll = np.radians([azimuth_deg, roll_deg])
    source = np.array([900 * np.cos(a), 900 * np.sin(a), height_mm])
    forward = -source / np.linalg.norm(source)
    level = np.cross(forward, [0.0, 0.0, 1.0])
    level /= np.linalg.norm(level)
    below = np.cross(forward, level)
    right = np.cos(roll) * level + np.sin(roll) * below
    down = -np.sin(roll) * level + np.cos(roll) * below
    return Described(source, right, down, forward, **more)  # type: ignore[arg-type]


VIEWS = (described(20.0, 150.0, 8.0), described(115.0, -80.0, -25.0))
SQUARE = tuple(replace(view, focal=(1830.0, 1830.0)) for view in VIEWS)


def csv(*lines: object) -> str:
    return "".join(",".join(f"{float(v):.12g}" for v in np.ravel(line)) + "\n" for line in lines)


def mayacam2(view: Described, unit: float = 1.0, distortion: str = "") -> str:
    """MayaCam 2.0: K; the rows of R are the camera's axes in the world; t = -R source."""
    axes = np.stack([view.right, view.down, view.forward])
    (fx, fy), (cx, cy) = view.focal, view.centre
    return (
        f"image size\n{COLUMNS},{ROWS}\n\ncamera matrix\n{csv([fx, 0, cx], [0, fy, cy], [0, 0, 1])}"
        f"\nrotation\n{csv(*axes)}\ntranslation\n{csv(*(-axes @ view.source / unit))}{distortion}"
    )


def mayacam1(view: Described, unit: float = 1.0) -> str:
    """MayaCam 1.0 as XrayProject's mayacam.m works it out: Maya's axes are right, up and back."""
    t = np.stack([view.right, -view.down, -view.forward], axis=1)  # columns: axes in the world
    alpha = np.arctan2(t[1, 0], t[0, 0])
    beta = np.arctan2(-t[2, 0], np.hypot(t[2, 1], t[2, 2]))
    gamma = np.arctan2(t[2, 1], t[2, 2])
    u0 = view.centre[0] + 1  # from 1
    v0 = ROWS - view.centre[1]  # from 1, from the bottom: the last row is 1
    z, scale = -view.focal[0], 0.1
    film = scale * np.array([COLUMNS / 2 - u0, ROWS / 2 - v0, z])
    angles = np.degrees([gamma, beta, alpha])
    return csv(view.source / unit, angles, film, [u0, v0, z], [scale, COLUMNS, ROWS])


def dlt_column(view: Described, unit: float = 1.0) -> np.ndarray:
    """The eleven coefficients, fitted to points and their (u, v) as a digitizer counts them."""
    points = np.random.default_rng(1).uniform(-60, 60, (30, 3))
    pixels = view.pixels(points)
    rows, right = [], []
    for (x, y, z), (column, row) in zip(points / unit, pixels, strict=True):
        u, v = column + 1, ROWS - row
        rows.append([x, y, z, 1, 0, 0, 0, 0, -u * x, -u * y, -u * z])
        rows.append([0, 0, 0, 0, x, y, z, 1, -v * x, -v * y, -v * z])
        right += [u, v]
    return np.asarray(np.linalg.lstsq(np.array(rows, float), np.array(right), rcond=None)[0])


def storage(**matrices: object) -> str:
    """FileStorage's YAML, as OpenCV writes it."""
    out = '%YAML:1.0\n---\ncalibration_time: "Sun 01 Jan 2023"\n'
    for name, values in matrices.items():
        if isinstance(values, int):
            out += f"{name}: {values}\n"
            continue
        matrix = np.atleast_2d(np.asarray(values, dtype=float))
        data = ", ".join(f"{v:.16e}" if v % 1 else f"{v:.0f}." for v in matrix.ravel())
        rows, cols = matrix.shape
        out += f"{name}: !!opencv-matrix\n   rows: {rows}\n   cols: {cols}\n   dt: d\n"
        out += f"   data: [ {data} ]\n"
    return out


def opencv(view: Described, unit: float = 1.0, **more: object) -> str:
    axes = np.stack([view.right, view.down, view.forward])
    (fx, fy), (cx, cy) = view.focal, view.centre
    return storage(
        image_width=COLUMNS,
        image_height=ROWS,
        camera_matrix=[[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
        distortion_coefficients=np.zeros((5, 1)),
        R=axes,
        T=(-axes @ view.source / unit)[:, None],
        **more,
    )


def views_file(folder: Path, files: dict[str, str], *entries: dict[str, object]) -> Path:
    """The ball's pictures with ``entries`` in place of their matrices, and the files beside."""
    path = write_views(folder, ball_case().views)
    content = json.loads(path.read_text(encoding="utf-8"))
    for view, entry in zip(content["views"], entries, strict=True):
        del view["intrinsic"], view["extrinsic"]
        view |= entry
    path.write_text(json.dumps(content), encoding="utf-8")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return path


def read(
    folder: Path, key: str, texts: list[str], ledger: Ledger | None = None, **details: object
) -> tuple[View, ...]:
    files = {f"cam{n}.txt": text for n, text in enumerate(texts)}
    entries = [{key: name, **details} for name in files]
    return read_views(views_file(folder, files, *entries), ledger)


@pytest.mark.parametrize(
    ("key", "write", "views"),
    [
        ("mayacam", mayacam2, VIEWS),
        ("mayacam", mayacam1, SQUARE),  # it has one focal length
        ("opencv", opencv, VIEWS),
    ],
)
def test_points_fall_where_the_described_camera_puts_them(
    tmp_path: Path, key: str, write: Callable[..., str], views: tuple[Described, ...]
) -> None:
    ledger = Ledger()
    got = read(tmp_path, key, [write(view) for view in views], ledger)
    for view, made in zip(views, got, strict=True):
        np.testing.assert_allclose(made.camera.project(POINTS), view.pixels(POINTS), atol=1e-6)
        np.testing.assert_allclose(made.camera.source_world, view.source, atol=1e-6)
        assert np.linalg.det(made.camera.world_to_camera[:3, :3]) == pytest.approx(1)
        assert not made.nominal
    assert {"cam0.txt", "cam1.txt"} <= set(ledger.inputs)
    assert ledger.notes == []


def test_dlt_points_fall_where_the_described_camera_puts_them(tmp_path: Path) -> None:
    text = csv(*np.stack([dlt_column(view) for view in VIEWS], axis=1))
    entries = [{"dlt": "merged.csv", "dlt_camera": n} for n in range(2)]
    got = read_views(views_file(tmp_path, {"merged.csv": text}, *entries))
    for view, made in zip(VIEWS, got, strict=True):
        np.testing.assert_allclose(made.camera.project(POINTS), view.pixels(POINTS), atol=1e-4)
        assert made.camera.intrinsic[0, 0] > 0


@pytest.mark.parametrize(("unit", "mm"), [("cm", 10.0), ("m", 1000.0), ("mm", 1.0)])
@pytest.mark.parametrize(
    ("key", "write"), [("mayacam", mayacam1), ("mayacam", mayacam2), ("opencv", opencv)]
)
def test_the_unit_is_said_by_the_view(
    tmp_path: Path, key: str, write: Callable[..., str], unit: str, mm: float
) -> None:
    got = read(tmp_path, key, [write(view, mm) for view in SQUARE], unit=unit)
    for view, made in zip(SQUARE, got, strict=True):
        np.testing.assert_allclose(made.camera.project(POINTS), view.pixels(POINTS), atol=1e-5)


@pytest.mark.parametrize(
    ("key", "write"), [("mayacam", mayacam1), ("mayacam", mayacam2), ("opencv", opencv)]
)
def test_a_file_in_cm_without_its_unit_is_refused(
    tmp_path: Path, key: str, write: Callable[..., str]
) -> None:
    with pytest.raises(InputError, match=r'cam0.txt: puts the source 91\.\d+ .*"unit"'):
        read(tmp_path, key, [write(view, 10.0) for view in SQUARE])


def test_dlt_in_cm(tmp_path: Path) -> None:
    files = {f"cam{n}.csv": csv(*dlt_column(view, 10.0)) for n, view in enumerate(VIEWS)}
    said = [{"dlt": name, "unit": "cm"} for name in files]
    got = read_views(views_file(tmp_path, files, *said))
    np.testing.assert_allclose(got[1].camera.project(POINTS), VIEWS[1].pixels(POINTS), atol=1e-4)
    with pytest.raises(InputError, match='"unit"'):
        read_views(views_file(tmp_path, files, *[{"dlt": name} for name in files]))


def test_a_unit_that_takes_the_source_out_of_the_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"puts the source 91\d\.\d m"):
        read(tmp_path, "mayacam", [mayacam2(view) for view in VIEWS], unit="m")


def test_a_flipped_camera_sees_the_mirror_image(tmp_path: Path) -> None:
    """XMALab can mirror pictures as it reads them; those on disk stay as they were."""
    got = read(tmp_path, "mayacam", [mayacam2(view) for view in VIEWS], flipped=True)
    expected = VIEWS[0].pixels(POINTS)
    expected[:, 0] = COLUMNS - 1 - expected[:, 0]
    np.testing.assert_allclose(got[0].camera.project(POINTS), expected, atol=1e-6)


def test_what_matlab_rounds_to_five_digits_moves_points_little(tmp_path: Path) -> None:
    def rounded(text: str) -> str:
        lines = [[float(v) for v in line.split(",")] for line in text.splitlines()]
        return "".join(",".join(f"{v:.5g}" for v in line) + "\r\n" for line in lines)

    got = read(tmp_path, "mayacam", [rounded(mayacam1(v, 10.0)) for v in SQUARE], unit="cm")
    apart = got[0].camera.project(POINTS) - SQUARE[0].pixels(POINTS)
    assert 1e-6 < np.abs(apart).max() < 0.3


def test_opencv_rotation_vector_projection_and_json(tmp_path: Path) -> None:
    (fx, fy), (cx, cy) = VIEWS[0].focal, VIEWS[0].centre
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    axes = np.stack([VIEWS[0].right, VIEWS[0].down, VIEWS[0].forward])
    rvec, t = Rotation.from_matrix(axes).as_rotvec(), -axes @ VIEWS[0].source
    projection = k @ np.column_stack([axes, t])
    as_json = json.dumps(
        {
            "cameraMatrix": {
                "type_id": "opencv-matrix", "rows": 3, "cols": 3, "dt": "d",
                "data": k.ravel().tolist(),
            },
            "R": axes.tolist(),
            "T": t.tolist(),
        }
    )  # fmt: skip
    texts = {
        "vector": storage(cameraMatrix=k, rvec=rvec[:, None], tvec=t[None]),
        "projection": storage(projection=projection),
        "both": storage(K=k, R=axes, t=t[:, None], P=projection),
        "old": storage(K=k, R=axes, t=t[:, None]).replace("---\n", ""),
        "json": as_json,
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        got = read(tmp_path / name, "opencv", [text, opencv(VIEWS[1])])
        np.testing.assert_allclose(
            got[0].camera.project(POINTS), VIEWS[0].pixels(POINTS), atol=1e-5, err_msg=name
        )


UPSIDE_DOWN = replace(VIEWS[0], down=-VIEWS[0].down)  # as if rows were counted from the bottom
MIRRORED = replace(VIEWS[0], right=-VIEWS[0].right)
SQUEEZED = replace(VIEWS[0], right=1.01 * VIEWS[0].right)


@pytest.mark.parametrize(
    ("key", "text", "sentence"),
    [
        ("mayacam", mayacam2(MIRRORED), "rotation that mirrors"),
        ("mayacam", mayacam2(UPSIDE_DOWN), "rotation that mirrors"),
        ("mayacam", mayacam2(SQUEEZED), "scales or shears"),
        ("opencv", opencv(MIRRORED), "rotation that mirrors"),
        ("dlt", csv(*dlt_column(MIRRORED)), "mirrored picture"),
        ("dlt", csv(*dlt_column(UPSIDE_DOWN)), "mirrored picture"),
        ("mayacam", mayacam2(VIEWS[0], distortion="\nundistortion\n" + "0.01\n" * 8), "distortion"),
        ("mayacam", mayacam2(VIEWS[0]).replace("320,300", "300,320"), "300 x 320 pixels"),
        ("mayacam", mayacam1(SQUARE[0]).replace("320,300", "300,320"), "contradicts itself"),
        ("mayacam", mayacam1(SQUARE[0]).replace("-1830", "1830"), "in front of the source"),
        ("mayacam", mayacam2(VIEWS[0]).replace("1810", "-1810"), "negative focal length"),
        ("mayacam", mayacam2(VIEWS[0]).replace("rotation", "rotations"), "not known"),
        ("mayacam", mayacam2(VIEWS[0]).split("translation")[0], 'has no "translation"'),
        ("mayacam", mayacam2(VIEWS[0]).replace("1810", "18l0"), "no number"),
        ("mayacam", "1,2,3\n4,5,6\n", "five lines of three numbers"),
        ("dlt", csv(*dlt_column(VIEWS[0])[:10]), "eleven lines"),
        ("opencv", storage(camera_matrix=np.eye(3)), "no rotation and no translation"),
        ("opencv", storage(M1=np.eye(3), R=np.eye(3), T=[1, 0, 0]), r"stereo calibration .*M1"),
        ("opencv", opencv(VIEWS[0], K=np.eye(3)), "camera matrix twice"),
        ("opencv", opencv(VIEWS[0], P=np.ones((3, 4)) + np.eye(3, 4)), "contradicts itself"),
        ("opencv", opencv(VIEWS[0]).replace("image_width: 320", "image_width: 640"), "640 x 300"),
        ("opencv", "camera_matrix: [1, 2", "no YAML"),
        ("opencv", opencv(VIEWS[0]).replace("rows: 5", "rows: 4"), "no matrix of numbers"),
    ],
)  # fmt: skip
def test_refusals_name_the_file(tmp_path: Path, key: str, text: str, sentence: str) -> None:
    path = views_file(
        tmp_path,
        {"cam0.txt": text, "cam1.txt": mayacam2(VIEWS[1])},
        {key: "cam0.txt"},
        {"mayacam": "cam1.txt"},
    )
    with pytest.raises(InputError, match=f"cam0.txt: .*{sentence}"):
        read_views(path)


def test_an_undistorted_picture_keeps_its_matrix(tmp_path: Path) -> None:
    texts = [mayacam2(v, distortion="\nundistortion\n" + "0.01\n" * 8) for v in VIEWS]
    got = read(tmp_path, "mayacam", texts, undistorted=True)
    np.testing.assert_allclose(got[0].camera.project(POINTS), VIEWS[0].pixels(POINTS), atol=1e-6)


def test_a_distortion_of_zero_is_none(tmp_path: Path) -> None:
    texts = [mayacam2(v, distortion="\nundistortion\n" + "0\n" * 8) for v in VIEWS]
    assert len(read(tmp_path, "mayacam", texts)) == 2


def test_a_unit_beside_another_source_is_refused(tmp_path: Path) -> None:
    path = write_views(tmp_path, ball_case().views)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["views"][0]["unit"] = "cm"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match=r'view "AP": "unit" goes with "mayacam" or "dlt" or "op'):
        read_views(path)


@pytest.mark.parametrize("command", ["register", "reconstruct"])
def test_the_commands_help_names_every_source(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--help"]) == 0
    told = capsys.readouterr().out
    for source in CAMERA_SOURCES:
        assert all(key in told for key in source.keys), source.name


def test_a_dlt_camera_must_be_chosen(tmp_path: Path) -> None:
    text = csv(*np.stack([dlt_column(view) for view in VIEWS], axis=1))
    for chosen, sentence in (({}, "holds 2 cameras"), ({"dlt_camera": 2}, "has no camera 2")):
        entries = [{"dlt": "merged.csv", **chosen}] * 2
        with pytest.raises(InputError, match=sentence):
            read_views(views_file(tmp_path, {"merged.csv": text}, *entries))
