"""Training of RecM and RegM: the three phases, and how far off held-out poses are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import torch
from torch import Tensor, nn

from ..gaussians import GaussianCloud
from ..networks import Prediction, RadGSReg, excess_cube, move_volume
from ..system import one_torch_thread
from .config import TrainingConfig
from .deformed import Deformed
from .loop import Around, Loop, falling
from .losses import point_distance, volume_l1
from .objective import POINT_MM, Objective
from .own import kept_cloud
from .pool import (
    VALIDATION,
    Batch,
    SamplePool,
    in_anchor_axes,
    numbers_of_step,
    stack_samples,
)

_POINTS = 64
_JOINT_RATE = 0.4
_SAID = {"recm": "reconstruction", "regm": "registration", "joint": "both together"}


class Trainer(Loop):
    """Trains a model; ends with the weights that erred least on held-out pairs."""

    checkpoint_name = "checkpoint.safetensors"
    goes_on = True
    warm_up = 30

    def __init__(
        self,
        model: RadGSReg,
        pool: SamplePool,
        config: TrainingConfig,
        **around: Unpack[Around],
    ) -> None:
        self.model, self.config = model, config
        around.setdefault("compute", config.compute("cpu"))
        super().__init__(model, pool, config, **around)
        self._subjects: dict[tuple[bool, int], tuple[Tensor, Tensor, Tensor]] = {}
        self._clouds: dict[tuple[bool, int], GaussianCloud] = {}
        bent = any(isinstance(source, Deformed) for source in pool.sources)
        self._is_bent = bent and model.is_patient_specific
        self.objective = Objective(
            model, config.extra, reduced=self.compute.reduced, ct_pairs=config.ct_pairs
        )
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.rate)
        self._shared: torch.nn.Module = self.objective
        if self.world > 1:
            self._shared = torch.nn.parallel.DistributedDataParallel(
                self.objective, find_unused_parameters=True
            )
        self._validation: list[Batch] | None = None

    def _message(self, share: float) -> str:
        phase, _ = self.config.shares.at(share)
        entries = self.history.entries
        error = ""
        if entries:
            last = entries[-1]
            error = f", error {last['recm_mm' if 'recm_mm' in last else 'regm_mm']:.1f} mm"
        return f"training {_SAID[phase]}: step {self.step}{error}"

    def _rate(self, share: float) -> float:
        """The rate at a ``share`` in [0, 1] of the run."""
        config = self.config
        if config.halve_every > 0:
            # By the share and not by the step: minutes may end a run long before its steps do.
            return config.rate * 0.5 ** int(share * config.steps / config.halve_every + 1e-9)
        phase, over = config.shares.at(share)
        # Each phase begins anew, so that RegM does not start at a rate that has run out.
        after = phase == "joint" and config.shares.recm + config.shares.regm > 0
        return config.rate * (_JOINT_RATE if after else 1.0) * falling(over)

    def _learn(self, share: float) -> None:
        config = self.config
        phase, _ = config.shares.at(share)
        rate = self._warm() * self._rate(share)
        batch: Batch = self._ahead.take(self.step)
        seed = config.seed * 1_000_003 + self.step * 64 + self.rank
        self.model.recm.generator = torch.Generator().manual_seed(seed)
        rendered = config.rendered if self.step % config.render_every == 0 else 0
        if phase == "joint":
            batch = batch.first(max(config.joint_cases // self.world, 1))
            rendered = len(batch.views)
        self.model.train()
        terms = self._shared(batch, phase, min(rendered, len(batch.views)))
        self._descend(terms["loss"], rate)
        if self.step % 10 == 0:
            self._log("train", {name: float(value.detach()) for name, value in terms.items()})

    def _make(self, step: int) -> Batch:
        config, known = self.config, self._known(step)
        numbers = numbers_of_step(config.seed, step, config.batch, known)
        mine = numbers[self.rank :: self.world]
        self.pool.prefetch(range(known, min(known + 4 * config.workers, config.pairs)))
        shuffle = np.random.default_rng([config.seed, step, 9, self.rank])
        return self._batch([int(n) for n in mine], shuffle)

    def _heavy(self) -> Sequence[nn.Module]:
        regm = self.model.regm
        return [self.model.recm.encoder, regm.encoder, regm.head.layers]

    def _batch(
        self,
        numbers: list[int],
        generator: np.random.Generator | None,
        pool: SamplePool | None = None,
    ) -> Batch:
        pool = pool or self.pool
        samples = pool.samples(numbers)
        pixel = self.config.model.recm.pixel_mm
        views, targets, poses = stack_samples(samples, pixel, generator)
        parts = [self._subject(pool, n) for n in numbers]
        axes, points, cubes = (torch.stack(part) for part in zip(*parts, strict=True))
        batch = Batch(views, targets, poses, axes, points, cubes, self.vertebrae(pool, numbers))
        if not self._is_bent:
            return batch
        # The first source of a patient is the vertebra as it is in the CT.
        before = self._subject(self.pool, 0)[2].expand_as(cubes)
        return replace(batch, before=before)

    def vertebrae(self, pool: SamplePool, numbers: Sequence[int]) -> tuple[GaussianCloud, ...]:
        """Return the pairs' vertebrae in the anchors' axes, where RecM is told shapes; none
        elsewhere, as a patient's own are the anchors."""
        recm = self.model.recm
        if self.model.is_patient_specific or not self.model.is_rigid or not recm.config.landmarks:
            return ()
        clouds = []
        for number in numbers:
            key = (pool is self.pool, pool.source_of(number))
            if key not in self._clouds:
                folder = None if self.folder is None else self.folder / f"clouds-{int(key[0])}"
                path = None if folder is None else folder / f"{key[1]}.npz"
                # Fitted, also where nothing is learned.
                with one_torch_thread(), torch.enable_grad():
                    cloud = kept_cloud(pool.subject(number), self.config.gaussians, path)
                self._clouds[key] = cloud
            clouds.append(self._clouds[key])
        return tuple(clouds)

    def _subject(self, pool: SamplePool, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of a pair's vertebra: anchors_to_centred, surface points, RegM's cube."""
        key = (pool is self.pool, pool.source_of(number))
        if key not in self._subjects:
            subject = pool.subject(number)
            surface = subject.surface_points_ct - subject.centre_ct
            chosen = np.linspace(0, len(surface) - 1, _POINTS).astype(int)
            axes = np.asarray(subject.anchors_to_centred)
            self._subjects[key] = (
                torch.from_numpy(axes).float(),
                torch.from_numpy(surface[chosen]).float(),
                excess_cube(subject.excess, subject.centre_ct, self.config.model.regm),
            )
        return self._subjects[key]

    @torch.no_grad()
    def _validate(self) -> None:
        if self._validation is None:
            numbers = [VALIDATION + n for n in range(self.config.validate)]
            self._validation = [
                self._batch(numbers[n : n + 8], None, self.unseen)
                for n in range(0, len(numbers), 8)
            ]
        reconstructed, registered = [], []
        for part in self._validation:
            batch = part.to(self.device)
            prediction = self.model.recm.predict(batch.views, batch.own)
            reconstructed.append(self._off(batch, prediction))
            ct, truth, points = batch.to_register()
            poses = self.model.align(prediction, ct, batch.own)
            registered.append(point_distance(points, truth, poses))
        errors, aligned = torch.cat(reconstructed), torch.cat(registered)
        best = self.history.best()
        posed = self.config.model.recm.pose
        # As in the loss, where a volume that is off by all of itself costs as much as 5 mm.
        error = float((1.0 if posed else POINT_MM) * errors.mean() + aligned.mean())
        self._note(
            "validation",
            {
                "minutes": self._earlier + self._minutes(),
                "recm_mm" if posed else "recm_volume": float(errors.median()),
                "regm_mm": float(aligned.median()),
                "error_mm": error,
            },
        )
        if not best or error <= best["error_mm"]:
            state = self.model.state_dict()
            self._best = {name: t.detach().cpu().clone() for name, t in state.items()}

    def _off(self, batch: Batch, prediction: Prediction) -> Tensor:
        """How far off RecM's answers are (B,): the anchors, mm, where they are posed, else the
        volume, as a share of the true one."""
        config = self.config.model
        if config.recm.pose:
            truth = batch.centred_to_box @ batch.anchors_to_centred
            points = in_anchor_axes(batch.points, batch.anchors_to_centred)
            return point_distance(points, truth, prediction.effect.poses)
        volumes = self.model.voxelize(self.model.recm.clouds(prediction.effect))
        true = move_volume(batch.ct, batch.centred_to_box, config.regm.box_mm)
        pairs = zip(volumes, true, strict=True)
        return torch.stack([volume_l1(ours[None], theirs[None]) for ours, theirs in pairs])
