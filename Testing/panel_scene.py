"""What the tests of the panel share: a small case as files and nodes, and a quick library.

The case is the bony ball of `ball`. `quick_library` puts a program in the library's place that
answers as the contract says, at once, so that a test of the panel need not compute.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ball
import numpy as np
import pytest
import qt_standin
import slicer
import slicer_startup

# Tells of two poses, and before these of a volume where the published order is asked for; then does
# what its file ``behaviour`` says. Without a CT it tells of two volumes that grow. Cameras that are
# to be refined are moved by 3 mm, and how they were given stands in ``views``.
PROGRAM = """
import json, pathlib, subprocess, sys, time
import numpy as np, SimpleITK as sitk
here = pathlib.Path(__file__)
behaviour = here.with_name("behaviour").read_text()
args = sys.argv[1:]
if args[0] == "info":
    print("radgsreg of the test")
    sys.exit(0)
here.with_name("arguments").write_text(json.dumps(args))
if args[0] == "segment":
    ct = sitk.ReadImage(args[1])
    mask = sitk.GetArrayFromImage(ct) * 0
    mask[4:12, 5:15, 6:18] = 1
    image = sitk.GetImageFromArray(mask.astype("uint8"))
    image.CopyInformation(ct)
    print(json.dumps({"progress": 0.5, "message": "bending"}), flush=True)
    if behaviour == "hang":
        time.sleep(120)
    sitk.WriteImage(image, args[args.index("--out") + 1])
    print(json.dumps({"progress": 1.0, "message": "done; looks odd"}), flush=True)
    sys.exit(0 if behaviour == "ok" else 3)
def say(fraction, message, **facts):
    print(json.dumps({"progress": fraction, "message": message, **facts}), flush=True)
if args[0] == "pretrain":
    case = pathlib.Path(args[3])
    here.with_name("case").write_text(case.read_text())
    header = case.with_name("seg.seg.nrrd").read_bytes()[:4000].decode("ascii", "ignore")
    names = [line.split(":=")[1] for line in header.splitlines() if "_Name:=" in line]
    here.with_name("names").write_text(json.dumps(names))
    say(0.1, "training reconstruction: step 20")
    if behaviour == "bad":
        print("radgsreg: seg.seg.nrrd: holds no bone", file=sys.stderr)
        sys.exit(2)
    if behaviour == "mute":
        time.sleep(120)
    say(0.2, "training reconstruction: step 40, error 4.1 mm",
        figures={"recm_mm": 4.1, "regm_mm": 7.9})
    stop = pathlib.Path(args[args.index("--stop") + 1])
    while behaviour == "hang" and not stop.exists():
        time.sleep(0.02)
    card = {"data": {"patient": "0123456789abcdef", "label": names[0]},
            "training": {"minutes": 1.5, "steps": 40},
            "figures on held-out pairs": {"RecM (mm)": 4.1}}
    header = {"__metadata__": {"radgsreg": json.dumps({"card": card})}}
    header = json.dumps(header).encode()
    out = pathlib.Path(args[args.index("--out") + 1])
    out.write_bytes(len(header).to_bytes(8, "little") + header)
    out.with_suffix(".md").write_text("card")
    say(1.0, "trained")
    sys.exit(0)
if args[0] == "calibrate":
    say(0.3, "looking for beads in V01")
    if behaviour == "hang":
        time.sleep(120)
    print("radgsreg: V01: the X-rays show nothing", file=sys.stderr)
    sys.exit(2)
if args[0] == "levels":
    out = pathlib.Path(args[args.index("--out") + 1])
    say(0.3, "looking for vertebrae")
    if behaviour == "bad":
        print("radgsreg: views.json: the X-rays show nothing", file=sys.stderr)
        sys.exit(2)
    if behaviour == "hang":
        time.sleep(120)
    out.mkdir()
    (out / "levels.json").write_text(here.with_name("record").read_text())
    say(1.0, "done")
    sys.exit(0)
def volume(folder, size, name="reconstruction.nii.gz", least=0.01):
    folder.mkdir(parents=True, exist_ok=True)
    array = np.zeros(size[::-1], "f4")
    array[1:-1, 1:-1, 1:-1] = least + 0.001 * np.arange(size[0] - 2)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / name))
def cloud(folder):
    names = "x y z scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3 density".split()
    header = "ply\\nformat binary_little_endian 1.0\\nelement vertex 1\\n"
    header += "".join("property float %s\\n" % n for n in names) + "end_header\\n"
    (folder / "gaussians.ply").write_bytes(header.encode() + np.ones(11, "<f4").tobytes())
out = pathlib.Path(args[args.index("--out") + 1])
if args[0] == "reconstruct":
    views = json.loads(pathlib.Path(args[1]).read_text())
    here.with_name("views").write_text(json.dumps(views))
    early = out.with_name("stage")
    say(0.3, "a coarse volume")
    if behaviour == "mute":
        time.sleep(120)
    for share, size in ((0.4, (8, 9, 10)), (0.6, (9, 10, 11))):
        volume(early, size)
        say(share, "fitting Gaussians to X-rays", reconstruction=str(early))
        time.sleep(0.3)
    if behaviour == "bad":
        print("radgsreg: views.json: the X-rays show nothing", file=sys.stderr)
        sys.exit(2)
    if behaviour == "hang":
        time.sleep(120)
    volume(out, (12, 13, 14))
    quality = {"held_out_psnr_db": 31.5}
    if "--standardize" in args:
        volume(out, (12, 13, 14), "bone_density.nii.gz", 0.0)
        quality["bone"] = {"agreement": 0.6, "tissue_per_mm": 0.02, "left_out": []}
    cloud(out)
    names = [view["name"] for view in views["views"]]
    odd = names[:1] if behaviour == "uncertain" else []
    record = {"status": behaviour, "reason": "as the test wants it",
              "quality": {"odd_views": odd, **quality}}
    (out / "reconstruction.json").write_text(json.dumps(record))
    say(1.0, behaviour)
    sys.exit(0 if behaviour == "ok" else 3)
case = json.loads(pathlib.Path(args[1]).read_text())
views = json.loads(pathlib.Path(args[1]).with_name(case["views"]).read_text())
here.with_name("views").write_text(json.dumps(views))
def pose(x):
    return [[1, 0, 0, x], [0, 1, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]]
def write_reconstruction(folder, size):
    folder.mkdir(parents=True)
    image = sitk.Image(*size, sitk.sitkFloat32) + 0.01
    sitk.WriteImage(image, str(folder / "reconstruction.nii.gz"))
    cloud(folder)
say(0.1, "searching")
if "published" in args:
    early = out.with_name("stage")
    write_reconstruction(early, (7, 5, 6))
    say(0.15, "comparing", reconstruction=str(early))
if behaviour == "bad":
    print("radgsreg: views.json: the X-rays show nothing", file=sys.stderr)
    sys.exit(2)
say(0.4, "refining the pose", ct_to_world=pose(5.0))
say(0.5, "refining the pose", ct_to_world=pose(9.0))
if behaviour == "hang":
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    here.with_name("sleeper").write_text(str(sleeper.pid))
    sleeper.wait()
quality = {"reason": "as the test wants it", "views": {}}
if len(views["views"]) == 1:
    quality |= {"in_plane_error_mm": 0.42, "depth_error_mm": 7.84}
if "--labels" in args:
    import spine_program
    spine_program.write(here, args, out, behaviour, pose, write_reconstruction)
    say(1.0, "done")
    sys.exit(0 if behaviour == "ok" else 3)
write_reconstruction(out, (4, 5, 6))
if here.with_name("few").exists():
    quality["cameras"] = {"problem": "there are too few vertebrae"}
elif "--refine-cameras" in args:
    refined = {view["name"]: {"refined": view.pop("nominal", False)} for view in views["views"]}
    for view in views["views"]:
        view["extrinsic"][0][3] += 3.0
        view["camera_covariance"] = (np.eye(9) * 0.01).tolist()
        view["room"] = "nominal"
        view["image"] = "../case/" + view["image"]
    quality["cameras"] = {"views": refined, "vertebrae": {}}
    if here.with_name("doubt").exists():
        quality["cameras"]["doubt"] = "they lie too far from where they were meant to be"
        for view in views["views"]:
            view["nominal"] = refined[view["name"]]["refined"]
    (out / "refined_views.json").write_text(json.dumps(views))
result = {"schema": "radgsreg/registration", "version": 1, "status": behaviour,
          "ct_to_world": pose(10.0), "covariance": (np.eye(6) * 0.01).tolist(),
          "quality": quality}
(out / "registration.json").write_text(json.dumps(result))
say(1.0, behaviour)
sys.exit(0 if behaviour == "ok" else 3)
"""


# What several vertebrae come to: each lies 10 mm beside the one before; ``statuses`` may say of
# each how sure it is, and ``bent.h5`` is the transform that bends the CT (see `bend`).
SPINE_PROGRAM = """
import json, pathlib, shutil
import numpy as np
def write(here, args, out, behaviour, pose, write_reconstruction):
    folder = pathlib.Path(args[1]).parent
    header = (folder / "seg.seg.nrrd").read_bytes()[:4000].decode("ascii", "ignore")
    said = [line.split(":=") for line in header.splitlines() if ":=" in line]
    names = [value for key, value in said if key.endswith("_Name")]
    values = [int(value) for key, value in said if key.endswith("_LabelValue")]
    asked = [int(label) for label in args[args.index("--labels") + 1].split(",")]
    names = {label: name for label, name in zip(values, names) if label in asked}
    statuses = here.with_name("statuses")
    statuses = json.loads(statuses.read_text()) if statuses.exists() else {}
    order = sorted(names, key=names.get)
    levels = {}
    for number, label in enumerate(order):
        name, own = names[label], out / f"level_{label}"
        write_reconstruction(own, (4, 5, 6))
        level = {"status": statuses.get(name, behaviour), "ct_to_world": pose(10.0 * number),
                 "covariance": (np.eye(6) * 0.01).tolist()}
        quality = {"reason": f"as the test wants {name}", "views": {"AP": {"score": 0.9}},
                   "expected_error_mm": 0.25 + number}
        (own / "registration.json").write_text(json.dumps(
            {"schema": "radgsreg/registration", "version": 1, "quality": quality, **level}))
        (own / "report.html").write_text(f"<html>{name}</html>")
        levels[name] = {**level, "label": label, "reason": quality["reason"],
                        "expected_error_mm": 0.25 + number, "folder": own.name}
    worst = ["ok", "uncertain", "failed"]
    status = worst[max(worst.index(level["status"]) for level in levels.values())]
    motions = [{"upper": names[a], "lower": names[b], "motion_ct": pose(0.0),
                "shift_mm": [1.0, 2.0, 2.0], "turn_deg": [3.0, 0.0, 4.0],
                "shift_sigma_mm": [0.1] * 3, "turn_sigma_deg": [0.1] * 3, "status": status}
               for a, b in zip(order, order[1:])]
    joint = {"order": list(levels), "matrix": np.eye(6 * len(levels)).tolist()}
    first = json.loads((folder / "case.json").read_text())["label"]
    (out / "spine.json").write_text(json.dumps(
        {"schema": "radgsreg/spine", "version": 1, "status": status,
         "begun_with": names[first], "levels": levels, "relative_motions": motions,
         "joint_covariance": joint, "timing_s": {}, "inputs": {}, "software": {},
         "parameters": {"notes": ["left out: AP shows 12 % of L5"]}}))
    (out / "report.html").write_text("<html>all</html>")
    shutil.copy(here.with_name("bent.h5"), out / "spine_ct_to_world.h5")
"""


class Library:
    """The quick library: say how it behaves, and see what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def behave(self, how: str) -> None:
        """``ok``, ``uncertain``, ``failed``, ``bad`` (unusable input) or ``hang``.

        A training that is to ``hang`` ends when it is told to stop; ``mute`` is one that hangs
        before it has measured anything, or a reconstruction before it tells of a volume.
        """
        (self.folder / "behaviour").write_text(how)

    def bend(self, statuses: dict[str, str] | None = None) -> None:
        """Be ready for several vertebrae: what the CT is bent by, and what is said of each."""
        from RadGSRegLib.cases import write_itk_bent

        moves, place = np.zeros((4, 5, 6, 3)), np.diag([20.0, 20.0, 20.0, 1.0])
        moves[..., 0] = 1.0
        common = np.eye(4)
        common[:3, 3] = [0.0, 20.0, 30.0]
        write_itk_bent(common, moves, place, self.folder / "bent.h5")
        (self.folder / "statuses").write_text(json.dumps(statuses or {}))

    def see(self, record: dict[str, Any]) -> None:
        """What it will say of the levels in X-rays."""
        (self.folder / "record").write_text(json.dumps(record))

    def read(self, name: str) -> str:
        """What it has written down: ``arguments``, ``views``, ``case``, ``names``, ``sleeper``."""
        return (self.folder / name).read_text()


def write_model(path: Path, card: dict[str, Any]) -> Path:
    """A model's file that holds a card and nothing else."""
    header = json.dumps({"__metadata__": {"radgsreg": json.dumps({"card": card})}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return path


def quick_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Put the quick library in the place of the real one, and temporary files under ``folder``."""
    from RadGSRegSlicer.process import environment, runs

    package = folder / "library" / "RadGSRegLib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PROGRAM)
    (package.parent / "spine_program.py").write_text(SPINE_PROGRAM)
    for module in (runs, environment):
        monkeypatch.setattr(module, "libraryFolder", lambda: package.parent)
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    library = Library(package)
    library.behave("ok")
    return library


def write_files(folder: Path) -> Path:
    """The ball's case as files; returns the folder (ct.nii.gz, seg.nii.gz, views.json, ...)."""
    return ball.write_ball(folder).parent


def load_nodes(folder: Path) -> tuple[Any, Any]:
    """CT and segmentation of a case folder as nodes of the scene."""
    ct = slicer_startup.load_volume(folder / "ct.nii.gz")
    ct.CreateDefaultDisplayNodes()
    return ct, slicer_startup.load_segmentation(folder / "seg.nii.gz", {22: "L3"})


def three_levels(ct: Any, segmentation: Any) -> dict[str, str]:
    """Add L2 above the ball and L4 below it to its segmentation; returns the identifiers of all."""
    ids = {"L3": segmentation.GetSegmentation().GetNthSegmentID(0)}
    shape = slicer.util.arrayFromVolume(ct).shape
    for name, slices in (("L2", slice(36, 39)), ("L4", slice(1, 4))):
        labels = np.zeros(shape, np.uint8)
        labels[slices, 12:24, 12:24] = 1
        ids[name] = segmentation.GetSegmentation().AddEmptySegment(f"vertebrae_{name}", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(labels, segmentation, ids[name], ct)
    return ids


def xray_nodes(count: int, size: int = 16) -> list[Any]:
    """X-rays of nothing in the scene, as many as wanted, taken in a half circle."""
    from RadGSRegSlicer.scene import xray

    from RadGSRegLib.geometry import Camera, exp_se3

    nodes = []
    for number in range(count):
        pose = exp_se3([-np.pi / 2, 0, 0, 0, 0, 0])
        pose = pose @ exp_se3([0, 0, np.pi * number / count, 0, 0, 0])
        pose[:3, 3] = [0, 0, 750]
        middle = (size - 1) / 2.0
        intrinsic = np.array([[1800.0, 0, middle], [0, 1800.0, middle], [0, 0, 1]])
        geometry = xray.XrayGeometry(Camera(intrinsic, pose, size, size), (0.6, 0.6))
        pixels = np.random.default_rng(number).random((size, size)).astype(np.float32)
        nodes.append(xray.createXrayNode(f"V{number + 1:02d}", pixels, geometry))
    return nodes


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Let the event loop run until something is so; fails after the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        qt_standin.processEvents(10)


def click_in_slice(xrayNode: Any, markups: Any, column: float, row: float) -> None:
    """What a click of a person does: a point on the detector, and the place mode is over."""
    from RadGSRegSlicer.scene.drawing import pixelsToRas

    place = pixelsToRas(xrayNode, [[column, row]])[0]
    slicer.util.getNodesByClass("vtkMRMLInteractionNode")[0].SetCurrentInteractionMode(2)
    markups.AddControlPointWorld(*(float(x) for x in place))
