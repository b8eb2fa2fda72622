"""The module's self test, which Slicer finds by its name in ``RadGSReg``."""

import json
import tempfile
from pathlib import Path

import numpy as np
import slicer
import vtk
from RadGSRegLib.errors import InputError
from RadGSRegLib.geometry import Camera, carm_camera
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from .operations import sampledata
from .process import environment
from .scene import xray
from .scene.carm import nominalCArm


class RadGSRegTest(ScriptedLoadableModuleTest):
    """The self test: no network, no patient, nothing to install."""

    # As little training as there can be: whether it runs, not whether it learns.
    BRIEFLY = {  # noqa: RUF012
        "model": {
            "recm": {"size_px": 32, "pixel_mm": 4.0},
            "regm": {"voxels": 16},
            "detector": {"size_px": 32, "pixel_mm": 7.5},
        },
        "detection": {"steps": 2, "batch": 2, "pairs": 2, "first_pairs": 2, "validate": 1},
        "steps": 3,
        "batch": 2,
        "pairs": 2,
        "first_pairs": 2,
        "gaussians": 60,
        "final_gaussians": 60,
        "validate": 1,
    }

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_geometryIsKept()
        self.setUp()
        self.test_badInputIsRefused()
        self.setUp()
        self.test_beadsToCameras()
        self.setUp()
        self.test_manyXraysToVolume()
        self.setUp()
        self.test_phantomToTransform()

    def _xray(self, name: str):
        world_to_camera = np.eye(4)
        world_to_camera[2, 3] = 750.0
        intrinsic = np.array([[1800.0, 0.0, 31.5], [0.0, 1800.0, 23.5], [0.0, 0.0, 1.0]])
        camera = Camera(intrinsic, world_to_camera, 64, 48)
        pixels = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
        return xray.createXrayNode(name, pixels, xray.XrayGeometry(camera, (0.6, 0.6)))

    def test_geometryIsKept(self):
        """An X-ray stands at its detector, and its geometry is read back from the node."""
        self.delayDisplay("X-ray geometry")
        node = self._xray("AP")
        geometry = xray.getGeometry(node)
        self.assertEqual(geometry.camera.size, (64, 48))
        center = [0.0, 0.0, 0.0, 1.0]
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        matrix.MultiplyPoint([31.5, 23.5, 0.0, 1.0], center)
        # The beam's foot lies 1800 * 0.6 = 1080 mm from the source, which is at z = -750 mm.
        self.assertAlmostEqual(center[2], 330.0, places=3)

    def test_badInputIsRefused(self):
        """A case that lacks something is refused with a reason, and nothing is written."""
        self.delayDisplay("Bad input")
        node = self._xray("AP")
        logic = _logic()
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "case"
            with self.assertRaises(InputError):
                logic.exportCase(None, None, "L3", [node], target)
            self.assertFalse(target.exists())

    def test_beadsToCameras(self):
        """Two X-rays of beads are calibrated, corrected, and have the cameras then."""
        if environment.missingPackages():
            self.delayDisplay("Left out: packages are not installed")
            return
        from RadGSRegLib.calibration import layout

        self.delayDisplay("Calibrating by beads")
        beads, size, spacing = layout("two-plates"), (400, 400), (0.6, 0.6)
        usual = nominalCArm(*size, spacing).camera(*size)
        row, column = np.mgrid[: size[1], : size[0]]
        nodes, cameras = [], []
        for name, degrees in (("AP", 5.0), ("oblique", 60.0)):
            camera = carm_camera(1000.0, 700.0, degrees, 10.0, size, spacing)
            pixels = np.full(size[::-1], 200.0)
            shown = camera.project(beads.centres_mm)
            for (u, v), wide in zip(shown, beads.diameters_mm, strict=True):
                away = np.hypot(column - u, row - v)
                pixels *= 1 - 0.8 / (1 + np.exp(np.minimum(3.0 * away - 3.6 * wide, 50.0)))
            geometry = xray.XrayGeometry(usual, spacing, nominal=True)
            nodes.append(xray.createXrayNode(name, pixels.astype(np.float32), geometry))
            cameras.append(camera)
        result = _logic().calibrate(nodes, "two-plates", sourceDetectorMm=1010.0, use=False)
        self.assertEqual(result.status, "ok")
        self.assertTrue(xray.getGeometry(nodes[0]).nominal)
        corrected = result.editing().removed(0, 3)
        _logic().calibrate(nodes, "two-plates", sourceDetectorMm=1010.0, pairs=corrected.pairs())
        for node, camera in zip(nodes, cameras, strict=True):
            geometry = xray.getGeometry(node)
            self.assertFalse(geometry.nominal)
            shown = geometry.camera.project(beads.centres_mm)
            away = np.hypot(*(shown - camera.project(beads.centres_mm)).T)
            self.assertLess(away.max(), 1.0)

    def _ballsXray(self, name: str, degrees: float):
        """Line integrals through balls of soft tissue and bone, seen from one side."""
        turn = np.radians(degrees)
        rotation = np.array(
            [
                [np.cos(turn), np.sin(turn), 0.0],
                [0.0, 0.0, -1.0],
                [-np.sin(turn), np.cos(turn), 0.0],
            ]
        )
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3], world_to_camera[2, 3] = rotation, 800.0
        intrinsic = np.array([[300.0, 0.0, 31.5], [0.0, 300.0, 31.5], [0.0, 0.0, 1.0]])
        rows, columns = np.mgrid[0:64, 0:64] - 31.5
        rays = np.stack([columns, rows, np.full((64, 64), 300.0)], axis=-1)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        pixels = np.zeros((64, 64))
        for centre, radius, density in (
            ((0.0, 0.0, 0.0), 60.0, 0.02),
            ((0.0, 0.0, 0.0), 20.0, 0.03),
            ((30.0, 20.0, 15.0), 8.0, 0.03),
        ):
            place = rotation @ centre + [0.0, 0.0, 800.0]
            away2 = place @ place - (rays @ place) ** 2
            pixels += 2.0 * density * np.sqrt(np.maximum(radius**2 - away2, 0.0))
        camera = Camera(intrinsic, world_to_camera, 64, 64)
        geometry = xray.XrayGeometry(camera, (3.6, 3.6), intensity="attenuation")
        return xray.createXrayNode(name, pixels.astype(np.float32), geometry)

    def test_manyXraysToVolume(self):
        """Eight X-rays and no CT: a volume that grows, bone told from the rest, its surface."""
        if environment.missingPackages():
            self.delayDisplay("Left out: packages are not installed")
            return
        self.delayDisplay("Reconstructing without a CT")
        nodes = [self._ballsXray(f"V{n}", 180.0 / 8.0 * n) for n in range(8)]
        grown = []
        result = _logic().reconstruct(
            nodes,
            boxMm=96.0,
            spacingMm=4.0,
            gaussians=1000,
            steps=5,
            standardize=True,
            device="cpu",
            previewCallback=grown.append,
        )
        self.assertGreater(len(grown), 0)
        self.assertIn(result.status, ("ok", "uncertain"))
        self.assertNotEqual(result.reason, "")
        values = slicer.util.arrayFromVolume(result.reconstructionNode)
        self.assertGreater(values[12, 12, 12], 1.5 * values[12, 12, 4])
        bone = slicer.util.arrayFromVolume(result.boneNode)
        self.assertEqual(bone.shape, values.shape)
        self.assertEqual(bone.min(), 0.0)
        self.assertLess(bone.max(), values.max())
        model = _logic().boneSurface(result.reconstructionNode, percentile=97.0)
        bounds = np.zeros(6)
        model.GetRASBounds(bounds)
        self.assertLess(np.abs(bounds[::2] + bounds[1::2]).max() / 2.0, 8.0)
        self.assertLess(np.ptp(bounds.reshape(3, 2), axis=1).max(), 60.0)

    def test_phantomToTransform(self):
        """The tutorial without a window: phantom, registration, error against the truth."""
        missing = environment.missingPackages()
        if missing:
            self.delayDisplay("Left out, not installed: " + ", ".join(missing))
            return
        logic = _logic()
        self.delayDisplay("Making the phantom")
        nodes = logic.simulate(realism="clean", seed=sampledata.SEED)
        where = nodes.ctNode, nodes.segmentationNode, "L3"
        self.assertGreater(logic.errorAgainstTruth(*where), 2.0)
        self.delayDisplay("Registering")
        result = logic.register(*where, nodes.xrayNodes, device="cpu", effort="fast")
        self.assertEqual(nodes.ctNode.GetTransformNodeID(), result.transformNode.GetID())
        self.assertLess(logic.errorAgainstTruth(*where), 2.0)
        self.assertIsNotNone(result.reconstructionNode.GetImageData())
        self.assertGreater(result.gaussiansNode.GetPolyData().GetNumberOfPoints(), 0)
        self.delayDisplay("Training for this patient, as briefly as can be")
        with tempfile.TemporaryDirectory() as folder:
            options = Path(folder) / "options.json"
            options.write_text(json.dumps(self.BRIEFLY), encoding="utf-8")
            model = logic.pretrain(
                *where, Path(folder) / "patient", minutes=1, device="cpu", config=options
            )
            self.assertTrue(model.path.is_file())
            self.assertEqual(model.card["data"]["label"], "L3")
        self.delayDisplay("Done")


def _logic():
    from RadGSReg import RadGSRegLogic  # which itself imports this file

    return RadGSRegLogic()
