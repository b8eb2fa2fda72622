"""RecM, from X-rays to Gaussians: encoder, counterfactual attention, head (math.md section 3).

The head first says where the anchors as a whole are, from the pooled features of all views, and
then moves each Gaussian away from its anchor by what the pictures show where the anchor projects.

The counterfactual difference (eq. 1) is taken on the head's raw output, before any activation:
there zero means "as the anchors are", so Y(A) - Y(A_bar) is what attention adds to them. On
activated parameters (densities, scales) a difference would mean nothing, and on the pooled input
the head could undo it by its bias.

Pictures come bone bright. Where the polarity is unknown, `model.RadGSReg.reconstruct` tries
both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError
from ..gaussians import GaussianCloud
from .anchors import NUMBERS, Anchors, project, sample_features
from .attention import AttentionPool
from .correspondence import Correspondence, Places
from .decoder import Decoded
from .detector import is_lateral
from .encoders import Encoder
from .pose_solver import pose_from_pixels
from .rigid import POSE_NUMBERS, apply_step, step_from_raw
from .turned import expected, expected_each, turn_towards, turned_field_mm
from .views import ViewBatch

LEAST_LANDMARKS = 8

_PICTURE_CHANNELS = 2
# With landmarks also what is valid, and what a pass before expects.
_MORE_CHANNELS = 2
_CAMERA_NUMBERS = 9
_STRETCH_UNIT = 0.1
_HALF_BOX_MM = 40.0


@dataclass(frozen=True)
class RecMConfig:
    """The shape of a reconstruction network.

    ``encoder``: one of `encoders.ENCODERS`; ``size_px`` pixels of ``pixel_mm``: its crops;
    ``maps`` of attention. ``pose``: the anchors are posed as a whole; ``stretch``: scaled along
    their axes. ``residual``: Gaussians may leave their anchors at all (off for a patient's own
    cloud, whose shape is known); ``pixel_aligned``: each sees the features where its anchor
    projects (off: the paper's form, global features alone). ``reach_mm``: how far from its anchor a
    Gaussian may go. ``landmarks``: so many points of the anchors are attended to, each by itself,
    and the pose is read from where they are in the pictures (0: it comes from pooled features).
    ``passes``: so often, each time in pictures turned towards the last pose, beside what is
    expected to be in them.
    """

    encoder: str = "small"
    size_px: int = 128
    pixel_mm: float = 1.0
    maps: int = 8
    hidden: int = 256
    counterfactual: bool = True
    pose: bool = True
    stretch: bool = True
    residual: bool = True
    pixel_aligned: bool = True
    reach_mm: float = 8.0
    embedding: int = 16
    per_anchor: int = 64
    landmarks: int = 0
    passes: int = 1

    def __post_init__(self) -> None:
        sizes = (self.maps, self.hidden, self.embedding, self.per_anchor)
        if min(sizes) < 1 or self.size_px < 32 or not self.pixel_mm > 0:
            raise InputError("network", "a size is too small", "check its configuration")
        if self.landmarks and (not self.pose or self.landmarks < LEAST_LANDMARKS):
            raise InputError(
                "network",
                f"{self.landmarks} landmarks say no pose",
                f"take {LEAST_LANDMARKS} or more and let the pose be open, or 0 for none",
            )
        if not 1 <= self.passes <= 8 or (self.passes > 1 and not self.landmarks):
            raise InputError("network", "several passes, up to 8, are for landmarks alone")
        if not (self.pose or self.residual):
            raise InputError("network", "with neither pose nor residual nothing is predicted")


@dataclass(frozen=True)
class Deformation:
    """One answer of the head: ``poses`` (B, 4, 4) anchors to box, ``stretch`` (B, 3) factors,
    ``raw`` (B, N, 11) per anchor (zeros: as the anchors are)."""

    poses: Tensor
    stretch: Tensor
    raw: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Deformation:
        """Return the same with a change to each of the tensors."""
        return Deformation(change(self.poses), change(self.stretch), change(self.raw))


class Pass(NamedTuple):
    """One look for landmarks: at which crops, their coarse and fine maps (B * V, channels, h, w),
    where landmarks are, and the poses (B, 4, 4) of that."""

    batch: ViewBatch
    coarse: Tensor
    fine: Tensor
    places: Places
    poses: Tensor


@dataclass(frozen=True)
class Prediction:
    """``effect`` is the answer (eq. 1), ``factual`` the head's own without the intervention (the
    same object where the counterfactual is off). ``attention`` (B, V, M, h, w), mean one over each
    map, of the landmarks in the first pass where there are any. ``passes``: how the poses came
    about, where landmarks say them. ``decoded``: what a `Decoder` made of the pictures there, if it
    was asked: then this, posed as the anchors are, is what is seen, with ``effect`` beside it where
    its shape was ``fitted`` to the X-rays."""

    effect: Deformation
    factual: Deformation
    attention: Tensor
    passes: tuple[Pass, ...] = ()
    decoded: Decoded | None = None
    fitted: bool = False

    def case(self, number: int) -> Prediction:
        """Return the answer for one case of the batch, as a batch of one."""
        part = slice(number, number + 1)
        effect, factual = (side.each(lambda t: t[part]) for side in (self.effect, self.factual))
        decoded = self.decoded and Decoded(*(tensor[part] for tensor in self.decoded))
        return Prediction(
            effect, factual, self.attention[part], decoded=decoded, fitted=self.fitted
        )

    def moved(self, step_box: Tensor) -> Prediction:
        """Return the same, the answer moved rigidly by ``step_box`` (4, 4) in the box's frame."""
        step = step_box.to(self.effect.poses)
        return replace(self, effect=replace(self.effect, poses=step @ self.effect.poses))


class _Raw(NamedTuple):
    """The head's raw output under one set of attention maps."""

    pose: Tensor
    gaussians: Tensor

    def minus(self, other: _Raw) -> _Raw:
        return _Raw(self.pose - other.pose, self.gaussians - other.gaussians)


def attention_of(passes: tuple[Pass, ...]) -> Tensor:
    """Return the landmarks' attention (B, V, N, h, w) in the first pass, whose crops are those
    given, mean one over each map."""
    maps = passes[0].places.attention
    return maps * (maps.shape[-1] * maps.shape[-2])


def _full_precision(like: Tensor) -> torch.autocast:
    """Where poses and pixels are computed: bfloat16 would round them to a few in a thousand."""
    return torch.autocast(like.device.type, enabled=False)


class RecM(nn.Module):
    """Batches of crops to Gaussians in the box's frame. ``anchors`` in centred CT axes, mm.

    Any number of views: frontal and lateral ones have weights of their own, several of a kind are
    averaged.
    """

    def __init__(self, config: RecMConfig, anchors: GaussianCloud) -> None:
        super().__init__()
        self.config = config
        channels = _PICTURE_CHANNELS + (_MORE_CHANNELS if config.landmarks else 0)
        self.encoder = Encoder(config.encoder, channels, config.size_px)
        self.pool = AttentionPool(self.encoder.coarse_channels, config.maps)
        hidden, wide = config.hidden, config.per_anchor
        self.per_kind = nn.ModuleList([nn.Linear(self.pool.outputs, hidden) for _ in range(2)])
        self.per_camera = nn.Linear(_CAMERA_NUMBERS, hidden, bias=False)
        self.mix = nn.Sequential(nn.ReLU(), nn.Linear(2 * hidden, hidden), nn.ReLU())
        self.pose_head = nn.Linear(hidden, POSE_NUMBERS + 3)
        fine = self.encoder.fine_channels
        self.shape_features = nn.Linear(2 * fine, wide)
        self.shape_anchor = nn.Linear(config.embedding + 3, wide, bias=False)
        self.shape_global = nn.Linear(hidden, wide, bias=False)
        self.shape = nn.Linear(wide, NUMBERS)
        for last in (self.pose_head, self.shape):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.correspondence: Correspondence | None = None
        if config.landmarks:
            self.correspondence = Correspondence(fine, config.landmarks)
            self.correspondence.set_landmarks(anchors)
        self.generator: torch.Generator | None = None
        """Where the random attention of training comes from (torch's own unless set)."""
        self.set_anchors(anchors)

    def set_anchors(self, anchors: GaussianCloud) -> None:
        """Predict around other anchors from now on: the patient's own, for the third stage.

        Landmarks stay, as their queries know them.
        """
        config = self.config
        self.anchors = Anchors(
            anchors,
            reach_mm=config.reach_mm,
            embedding=config.embedding,
            free=config.residual,
        ).to(self.pose_head.weight.device)

    def forward(self, batch: ViewBatch, own: Sequence[GaussianCloud] = ()) -> Prediction:
        """Gaussians for pictures in which bone is bright.

        ``own``: the vertebrae of the batch in the anchors' axes, one for each case, where landmarks
        are looked for on others than the anchors.
        """
        count, views = len(batch), batch.views
        coarse, fine = self.encoder(self._channels(batch, torch.zeros_like(batch.valid)))
        passes = self._passes(batch, coarse, fine, own)
        if passes and not (self.config.residual or self.config.stretch):
            return self._as_posed(passes)
        if passes:
            # How Gaussians leave their anchors shows best beside what anchors look like.
            batch, coarse, fine = passes[-1].batch, passes[-1].coarse, passes[-1].fine
        attention = self.pool.attention(coarse)
        raw, poses = self._raw(batch, coarse, fine, attention, passes[-1].poses if passes else None)
        factual = self._decode(raw, poses)
        kept = attention_of(passes) if passes else attention.unflatten(0, (count, views))
        if not self.config.counterfactual:
            return Prediction(factual, factual, kept, passes)
        other = self.pool.counterfactual(attention, self.generator)
        difference = raw.minus(self._raw(batch, coarse, fine, other, poses)[0])
        with _full_precision(coarse):
            moved = passes[-1].poses if passes else self._poses(difference.pose)
        return Prediction(self._decode(difference, moved), factual, kept, passes)

    def _as_posed(self, passes: tuple[Pass, ...]) -> Prediction:
        """The answer where nothing but the pose is open: the same on both sides of the
        counterfactual, and nothing of the pooled features is in it."""
        poses = passes[-1].poses
        raw = poses.new_zeros(len(poses), len(self.anchors), NUMBERS)
        answer = Deformation(poses, torch.ones_like(poses[:, :3, 3]), raw)
        return Prediction(answer, answer, attention_of(passes), passes)

    def _channels(self, batch: ViewBatch, drawn: Tensor) -> Tensor:
        """What the encoder sees (B * V, channels, H, W): where landmarks are looked for also what
        is expected (B, V, H, W), nothing in the first pass."""
        if self.correspondence is None:
            return batch.pictures.flatten(0, 1)
        more = torch.stack([batch.valid, drawn], dim=2)
        return torch.cat([batch.pictures, more], dim=2).flatten(0, 1)

    def _passes(
        self, batch: ViewBatch, coarse: Tensor, fine: Tensor, own: Sequence[GaussianCloud]
    ) -> tuple[Pass, ...]:
        """Read poses from landmarks, first in the crops as they are, whose maps are known.

        No gradient goes from a pass to the one before: each learns to mend what there is. Training
        makes two at most, as later ones are like the second.
        """
        if self.correspondence is None:
            return ()
        lateral = is_lateral(batch.extrinsics)
        start = torch.eye(4, device=fine.device).repeat(len(batch), 1, 1)
        passes = [self._pass(batch, (coarse, fine), lateral, start)]
        field_mm = turned_field_mm(self.config.pixel_mm, batch.size_px)
        most = 2 if self.training else self.config.passes
        for _ in range(1, min(self.config.passes, most)):
            poses = passes[-1].poses.detach()
            with torch.no_grad(), _full_precision(fine):
                turned = turn_towards(batch, poses, self.correspondence.up, field_mm)
                if own:
                    drawn = expected_each(own, turned, poses)
                else:
                    drawn = expected(self.anchors.cloud(), turned, poses)
            maps = self.encoder(self._channels(turned, drawn))
            passes.append(self._pass(turned, maps, lateral, poses))
        return tuple(passes)

    def _pass(
        self, batch: ViewBatch, maps: tuple[Tensor, Tensor], lateral: Tensor, start: Tensor
    ) -> Pass:
        assert self.correspondence is not None
        fine = maps[1].unflatten(0, (len(batch), batch.views))
        with _full_precision(fine):
            places = self.correspondence(fine.float(), lateral, batch.size_px)
            poses = pose_from_pixels(
                self.correspondence.landmarks,
                places.pixels,
                places.weights,
                batch.intrinsics,
                batch.extrinsics,
                start,
            )
        return Pass(batch, *maps, places, poses.float())

    @torch.no_grad()
    def predict(self, batch: ViewBatch, own: Sequence[GaussianCloud] = ()) -> Prediction:
        """Give the answer, without a graph and without anything random."""
        was = self.training
        self.eval()
        try:
            prediction: Prediction = self(batch, own)
        finally:
            self.train(was)
        return prediction

    def clouds(self, shape: Deformation) -> list[GaussianCloud]:
        """Return the predicted Gaussians, one cloud per case, in the box's frame."""
        return self.anchors.decode(shape.raw, shape.poses, shape.stretch)

    def _raw(
        self,
        batch: ViewBatch,
        coarse: Tensor,
        fine: Tensor,
        attention: Tensor,
        poses: Tensor | None = None,
    ) -> tuple[_Raw, Tensor]:
        """The head's raw output Y(A, X) for given attention maps, and the poses it means.

        ``poses`` fixes where anchors look at the pictures: both sides of the counterfactual look at
        the same places, or their difference would compare different things.
        """
        count, views = len(batch), batch.views
        pooled = self.pool.pool(coarse, attention).unflatten(0, (count, views))
        token = self._token(batch, pooled)
        with _full_precision(token):
            pose = self.pose_head(token.float())
            if poses is None:
                poses = self._poses(pose)
        gaussians = pose.new_zeros(count, len(self.anchors), NUMBERS)
        if self.config.residual:
            # Attention also weighs what single anchors see.
            weight = functional.interpolate(
                attention.mean(1, keepdim=True), size=fine.shape[-2:], mode="bilinear"
            )
            maps = (fine * weight).unflatten(0, (count, views))
            with _full_precision(token):
                points = self.anchors.posed_means(poses.detach(), self._stretch(pose).detach())
                pixels = project(points, batch.intrinsics, batch.extrinsics)
                features = sample_features(maps.float(), pixels, batch.size_px)
            both = torch.cat([features.mean(1), features.amax(1)], dim=-1)
            if not self.config.pixel_aligned:
                both = torch.zeros_like(both)
            own = torch.cat([self.anchors.embedding, self.anchors.means / _HALF_BOX_MM], dim=1)
            gaussians = self.shape(
                functional.relu(
                    self.shape_features(both)
                    + self.shape_anchor(own)
                    + self.shape_global(token)[:, None]
                )
            ).float()
        return _Raw(pose, gaussians), poses

    def _token(self, batch: ViewBatch, pooled: Tensor) -> Tensor:
        """What all views (B, V, outputs) say together: (B, hidden)."""
        lateral = is_lateral(batch.extrinsics).to(pooled.dtype)
        camera = self.per_camera(batch.extrinsics[..., :3, :3].flatten(-2))
        kinds = []
        for linear, share in zip(self.per_kind, (1.0 - lateral, lateral), strict=True):
            total = ((linear(pooled) + camera) * share[..., None]).sum(1)
            kinds.append(total / share.sum(1, keepdim=True).clamp_min(1.0))
        token: Tensor = self.mix(torch.cat(kinds, dim=1))
        return token

    def _poses(self, pose: Tensor) -> Tensor:
        start = torch.eye(4, device=pose.device, dtype=pose.dtype).repeat(len(pose), 1, 1)
        if not self.config.pose:
            return start
        return apply_step(start, *step_from_raw(pose[:, :POSE_NUMBERS]))

    def _stretch(self, pose: Tensor) -> Tensor:
        if not self.config.stretch:
            return torch.ones_like(pose[:, :3])
        return torch.exp(_STRETCH_UNIT * pose[:, POSE_NUMBERS:])

    def _decode(self, raw: _Raw, poses: Tensor) -> Deformation:
        return Deformation(poses, self._stretch(raw.pose), raw.gaussians)
