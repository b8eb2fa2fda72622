"""The loss of a batch in each of the three module-aware phases."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..gaussians import GaussianCloud, rasterize
from ..networks import Pass, RadGSReg, attention_loss, move_volume, placed, project
from ..tensors import applied
from . import losses
from .ct_pairs import CtPairs
from .losses import ExtraWeights
from .pool import Batch, in_anchor_axes

# Distances enter the loss in units of this.
POINT_MM = 5.0
# Poses of landmarks count as off by so much at most. Not varied.
_FAR_MM = 20.0


class Objective(nn.Module):
    """The model with its losses as one module, so that its forward is what several processes share.

    ``forward(batch, phase, rendered)`` returns a dict of scalars; "loss" is the one to minimise.
    ``rendered``: how many cases of the batch, from the first, enter eq. 2 and 3. With
    ``reduced`` the networks run in bfloat16. ``ct_pairs``: how far CTs are moved for RegM alone
    (None: to where they are in the X-rays).
    """

    def __init__(
        self,
        model: RadGSReg,
        extra: ExtraWeights,
        *,
        reduced: bool = False,
        ct_pairs: CtPairs | None = None,
    ) -> None:
        super().__init__()
        self.reduced = reduced
        self.ct_pairs = ct_pairs
        self.model = model
        self.extra = extra

    def forward(self, batch: Batch, phase: str, rendered: int) -> dict[str, Tensor]:
        """Return losses by name."""
        if phase == "recm":
            terms, _ = self._reconstruction(batch, rendered)
        elif phase == "regm":
            if self.ct_pairs is not None:
                box_mm, generator = self.model.config.regm.box_mm, self.model.recm.generator
                poses = self.ct_pairs.draw(batch.points, box_mm, generator)
                batch = replace(batch, centred_to_box=poses)
            terms = self._registration(batch, self._ct_pair(batch), rendered)
        elif phase == "joint":
            terms, effects = self._reconstruction(batch, max(rendered, 1))
            volumes = self.model.voxelize(effects)
            registered = self._registration(batch.first(len(effects)), volumes, len(effects))
            # L_total (eq. 4): the synergistic phase trains both modules on the sum.
            whole = registered["loss"] + terms["loss"]
            terms = {**terms, **registered, "loss": whole}
        else:
            raise ValueError(f"there is no phase {phase!r}")
        return terms

    def _reconstruction(
        self, batch: Batch, rendered: int
    ) -> tuple[dict[str, Tensor], list[GaussianCloud]]:
        """L_CAL-rec and what simulation adds; the effect's clouds of ``rendered`` cases."""
        recm = self.model.recm
        with self._networks(batch):
            prediction = recm(batch.views, batch.own)
        answers = [prediction.effect.each(Tensor.float)]
        counterfactual = prediction.factual is not prediction.effect
        if counterfactual:
            answers.append(prediction.factual.each(Tensor.float))
        truth = batch.centred_to_box @ batch.anchors_to_centred
        points = in_anchor_axes(batch.points, batch.anchors_to_centred)
        terms: dict[str, Tensor] = {}
        loss = truth.new_zeros(())
        if prediction.passes:
            landmarks, known = self._landmarks(prediction.passes, truth, points)
            terms |= {name: term.detach() for name, term in landmarks.items()}
            loss = loss + self.extra.places * landmarks["places"]
            apart = known * (landmarks["points_mm"] + landmarks["passes_mm"])
            loss = loss + self.extra.points * apart / POINT_MM
        elif recm.config.pose:
            apart = torch.stack(
                [losses.point_distance(points, truth, a.poses).mean() for a in answers]
            )
            terms["points_mm"] = apart[0].detach()
            loss = loss + self.extra.points * apart.mean() / POINT_MM
        effects: list[GaussianCloud] = []
        if rendered > 0:
            some = batch.first(rendered)
            true_volume = move_volume(some.ct, some.centred_to_box, self.model.config.regm.box_mm)
            outputs = []
            for answer in answers:
                shape = answer.each(lambda t: t[:rendered])
                clouds = placed(some.own, shape.poses) if some.own else recm.clouds(shape)
                effects = effects or clouds
                outputs.append((render(clouds, some), self.model.voxelize(clouds)))
            if counterfactual:
                effect, factual = outputs
                eq2 = losses.counterfactual_reconstruction_loss(effect, factual, some.targets)
            else:
                images, volumes = outputs[0]
                eq2 = losses.reconstruction_terms(images, some.targets, volumes)
            volume = torch.stack([losses.volume_l1(v, true_volume) for _, v in outputs]).mean()
            terms |= {"eq2": eq2.detach(), "volume": volume.detach()}
            loss = loss + eq2 + self.extra.volume * volume
        terms["loss"] = loss
        return terms, effects

    def _landmarks(
        self, passes: Sequence[Pass], truth: Tensor, points: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """How far the attention of landmarks is from where they are (mean over the passes), and the
        last pose and those before it from the truth; then how much poses count by now.

        Before attention knows anything poses say nothing, and their steep gradients would drown
        what it could learn: they count in full once it knows half of what there is to know.
        """
        correspondence = self.model.recm.correspondence
        assert correspondence is not None
        points_box = applied(truth[:, None], correspondence.landmarks[None])
        off = []
        for each in passes:
            size_px = each.batch.size_px
            pixels = project(points_box, each.batch.intrinsics, each.batch.extrinsics)
            off.append(attention_loss(each.places, pixels, size_px))
        places = torch.stack(off).mean()
        # What is farther off than this has been mistaken; only attention can mend it.
        *before, last = (
            losses.point_distance(points, truth, each.poses).clamp_max(_FAR_MM).mean()
            for each in passes
        )
        apart = torch.stack(before).mean() if before else truth.new_zeros(())
        maps = passes[0].places.logits
        knows_nothing = math.log(maps.shape[-1] * maps.shape[-2])
        known = (2.0 * (1.0 - places.detach() / knows_nothing)).clamp(0.0, 1.0)
        return {"places": places, "points_mm": last, "passes_mm": apart}, known

    def _registration(self, batch: Batch, volumes: Tensor, compared: int) -> dict[str, Tensor]:
        """``compared``: how many cases, from the first, enter eq. 3."""
        regm = self.model.regm
        # Half of the steps learn from nothing known, half from what a first pass has left.
        most = min(2, regm.config.passes)
        passes = 1 + int(torch.randint(most, (), generator=self.model.recm.generator))
        with self._networks(batch):
            ct, truth, points = batch.to_register()
            poses, before, moves = regm.trace(volumes, ct, passes)
        apart = losses.point_distance(points, truth, poses).mean()
        extra = self.extra.points * apart
        if moves is not None:
            rest = truth @ torch.linalg.inv(before)
            extra = extra + self.extra.displacements * losses.displacement_error(moves, rest)
        terms = {"registered_mm": apart.detach(), "loss": extra / POINT_MM}
        if compared > 0:
            moved = move_volume(ct[:compared], poses[:compared], regm.config.box_mm)
            eq3 = losses.registration_loss(
                moved, volumes[:compared], truth[:compared], poses[:compared]
            )
            terms["eq3"] = eq3.detach()
            terms["loss"] = terms["loss"] + eq3
        return terms

    def _networks(self, batch: Batch) -> torch.autocast:
        """Where the networks run: in half precision if asked for. Losses never do: SSIM is a
        difference of nearly equal numbers."""
        place = batch.targets.device.type
        return torch.autocast(place, dtype=torch.bfloat16, enabled=self.reduced)

    def _ct_pair(self, batch: Batch) -> Tensor:
        """CT pairs, as the paper trains RegM alone: the CT moved by the true pose, imperfectly."""
        moved = move_volume(batch.ct, batch.centred_to_box, self.model.config.regm.box_mm)
        if not self.training:
            return moved
        generator = self.model.recm.generator
        count = len(moved)
        dims = (count, 1, 1, 1)
        blurred = torch.nn.functional.avg_pool3d(moved[:, None], 3, stride=1, padding=1)[:, 0]
        share = torch.rand(dims, generator=generator).to(moved)
        noise = torch.randn(moved.shape, generator=generator).to(moved)
        level = 0.1 * torch.rand(dims, generator=generator).to(moved) * moved.amax()
        return torch.lerp(moved, blurred, share) + level * noise * (blurred > 0)


def render(clouds: list[GaussianCloud], batch: Batch) -> Tensor:
    """Render line integrals (B, V, H, W) of clouds in the batch's cameras."""
    views = batch.views
    size = (views.size_px, views.size_px)
    return torch.stack(
        [
            torch.stack([rasterize(cloud, k, e, size) for k, e in zip(ks.cpu(), es, strict=True)])
            for cloud, ks, es in zip(clouds, views.intrinsics, views.extrinsics, strict=True)
        ]
    )
