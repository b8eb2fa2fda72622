"""The whole method as one model, and its file: safetensors with a model card (no pickle)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..cases import options_from, output_file
from ..choices import ANCHORS
from ..errors import InputError
from ..gaussians import GaussianCloud, coarsen, rasterize, voxelize
from ..tensors import load_tensors, save_tensors
from ..views import local_contrast
from . import bounds
from .anchors import Anchors, grid_cloud
from .decoder import Decoder, DecoderConfig, decoded_cloud
from .detector import Detector, DetectorConfig
from .recm import Deformation, Prediction, RecM, RecMConfig
from .regm import RegM, RegMConfig
from .shapes import Shapes
from .smooth import smooth_shapes
from .views import ViewBatch

SCHEMA = "radgsreg/model"
VERSION = 2

# Weights of this many numbers and more are stored in half precision.
_LARGE = 4096


@dataclass(frozen=True)
class ModelConfig:
    """The shapes of the networks; ``detector`` is None where the model has none, ``modes`` how many
    shape modes of a population it knows. ``anchors``: "template" (a vertebra's Gaussians: a mean
    one's, or a patient's own) or "grid". ``patient``: whether the model is of one patient's
    vertebra (None, as in files that do not say: where nothing but the anchors' pose is open).
    ``decoder``: of vertebrae whose shapes it is not told, beside landmarks (None: there is none).
    """

    recm: RecMConfig = field(default_factory=RecMConfig)
    regm: RegMConfig = field(default_factory=RegMConfig)
    detector: DetectorConfig | None = None
    modes: int = 0
    anchors: str = "template"
    patient: bool | None = None
    decoder: DecoderConfig | None = None

    def __post_init__(self) -> None:
        if self.anchors not in ANCHORS:
            raise InputError("model", f"there are no anchors {self.anchors!r}", ", ".join(ANCHORS))
        if self.anchors == "grid" and not self.recm.residual:
            raise InputError(
                "model", "a grid that may not change shows no vertebra", "set recm.residual"
            )
        if not isinstance(self.modes, int) or not 0 <= self.modes < 1000:
            raise InputError("model", f"{self.modes} shape modes are not possible")
        if self.decoder is not None and not (self.recm.pose and self.recm.landmarks):
            raise InputError(
                "model", "a decoder needs landmarks, which say where it looks", "set recm.landmarks"
            )


class RadGSReg(nn.Module):
    """RecM, RegM and, where the configuration has them, the detector that finds the vertebra, the
    modes in which a population's vertebrae differ, and the decoder of those never seen before.

    ``anchors``: the cloud, in centred CT axes (mm), that RecM predicts around.
    """

    def __init__(self, config: ModelConfig, anchors: GaussianCloud) -> None:
        super().__init__()
        self.config = config
        self.recm = RecM(config.recm, anchors)
        self.regm = RegM(config.regm)
        self.detector = None if config.detector is None else Detector(config.detector)
        self.shapes = Shapes(config.modes, len(anchors)) if config.modes else None
        self.decoder = None if config.decoder is None else Decoder(config.decoder)
        self.card: dict[str, Any] = {}
        self.source: Path | str = "the model"
        self._few: tuple[Anchors, GaussianCloud] | None = None
        self._changes: tuple[Anchors, Shapes] | None = None

    def with_detector(self, config: DetectorConfig | None) -> RadGSReg:
        """This model; given an untrained detector if it has none and ``config`` says what kind."""
        if self.detector is None and config is not None:
            self.detector = Detector(config).to(next(self.parameters()).device)
            self.config = replace(self.config, detector=config)
        return self

    def with_shapes(self, shapes: Shapes) -> RadGSReg:
        """This model; with ``shapes`` over its anchors from now on."""
        self.shapes = shapes.to(next(self.parameters()).device)
        self.config = replace(self.config, modes=len(shapes))
        return self

    @property
    def is_patient_specific(self) -> bool:
        """Whether the model is of one patient's vertebra."""
        patient = self.config.patient
        return self.is_rigid if patient is None else patient

    @property
    def is_rigid(self) -> bool:
        """Whether nothing but the anchors' pose is open, so that every answer is a copy of them."""
        config = self.config.recm
        return config.pose and not config.residual and not config.stretch

    def changes(self) -> Shapes | None:
        """Return how the patient's vertebra may have changed since its CT, where the model is of
        one and RecM itself does not say (else None)."""
        if self.shapes is not None or not (self.is_rigid and self.is_patient_specific):
            return None
        anchors = self.recm.anchors
        if self._changes is None or self._changes[0] is not anchors:
            self._changes = (anchors, smooth_shapes(anchors))
        return self._changes[1]

    def with_decoder(self, config: DecoderConfig | None) -> RadGSReg:
        """This model; given an untrained decoder if it has none and ``config`` says what kind."""
        if self.decoder is None and config is not None:
            self.config = replace(self.config, decoder=config)
            self.decoder = Decoder(config).to(next(self.parameters()).device)
        return self

    def without_decoder(self) -> RadGSReg:
        """This model; without a decoder from now on."""
        self.config, self.decoder = replace(self.config, decoder=None), None
        return self

    @torch.no_grad()
    def decode(self, prediction: Prediction, batch: ViewBatch) -> Prediction:
        """RecM's answer with what the decoder makes of the pictures there, where the model has one.

        ``batch``: the same views in the box's frame as the decoder sees them, bone bright.
        """
        if self.decoder is None:
            return prediction
        correspondence = self.recm.correspondence
        assert correspondence is not None
        was = self.decoder.training
        self.decoder.eval()
        try:
            decoded = self.decoder(batch, prediction.effect.poses, correspondence.up)
        finally:
            self.decoder.train(was)
        return replace(prediction, decoded=decoded)

    def clouds(self, prediction: Prediction) -> list[GaussianCloud]:
        """Return what is seen as Gaussians, one cloud per case, in the box's frame: what was
        decoded, or RecM's own where nothing was; both, each with its share of the density, where
        RecM's were bent to the X-rays."""
        if prediction.decoded is None or self.decoder is None:
            return self.recm.clouds(prediction.effect)
        config = self.decoder.config
        parts = [prediction.case(n) for n in range(len(prediction.effect.poses))]
        decoded = placed(
            [decoded_cloud(part.decoded, config) for part in parts if part.decoded],
            prediction.effect.poses,
        )
        if not prediction.fitted:
            return decoded
        share = bounds.BENT_SHARE
        pairs = zip(self.recm.clouds(prediction.effect), decoded, strict=True)
        return [_both(bent.detach(), cloud, share) for bent, cloud in pairs]

    def voxelize(self, clouds: list[GaussianCloud]) -> Tensor:
        """Voxelize clouds in the box's frame as RegM's cubes (B, K, J, I), 1/mm; differentiable."""
        config = self.config.regm
        size = (config.voxels,) * 3
        return torch.stack([voxelize(c, config.index_to_box(), size) for c in clouds])

    @torch.no_grad()
    def reconstruct(
        self, batch: ViewBatch, known: Sequence[bool] = ()
    ) -> tuple[Prediction, Tensor, Tensor]:
        """RecM's answer, the polarity (B,) that it was found with (+1 as given, -1 inverted), and
        how well the pictures agree with it (B,), at most 1.

        Both polarities are tried, of all views but those that are ``known`` to be bone bright; the
        one in which the pictures agree better with what they were taken to show is kept.
        """
        if known and all(known):
            prediction = self.recm.predict(batch)
            agree = self._agreement(prediction, batch)
            return prediction, torch.ones_like(agree), agree
        turn = batch.pictures.new_tensor([1.0 if k else -1.0 for k in known] or [-1.0])
        other = replace(batch, pictures=batch.pictures * turn[:, None, None, None])
        both = [self.recm.predict(batch), self.recm.predict(other)]
        agrees = torch.stack(
            [
                self._agreement(prediction, shown)
                for prediction, shown in zip(both, (batch, other), strict=True)
            ]
        )
        first = agrees[0] >= agrees[1]
        return _where(first, *both), torch.where(first, 1.0, -1.0), agrees.amax(dim=0)

    @torch.no_grad()
    def align(
        self, prediction: Prediction, ct: Tensor, own: Sequence[GaussianCloud] = ()
    ) -> Tensor:
        """RegM's poses (B, 4, 4), centred CT to box, for a prediction and CT cubes (B, K, J, I);
        ``own`` as RecM was given them."""
        was = self.training
        self.eval()
        try:
            poses_box = prediction.effect.poses
            clouds = placed(own, poses_box) if own else self.clouds(prediction)
            volumes = self.voxelize(clouds)
            poses: Tensor = self.regm(volumes, ct.to(volumes))
        finally:
            self.train(was)
        return poses

    def _few_gaussians(self, prediction: Prediction) -> list[GaussianCloud]:
        """The predicted clouds with few enough Gaussians to be rendered often."""
        if not self.is_rigid:
            clouds = self.recm.clouds(prediction.effect)
            many = len(self.recm.anchors) > 2 * bounds.DRAWN_GAUSSIANS
            return [coarsen(c, bounds.DRAWN_GAUSSIANS) if many else c for c in clouds]
        anchors = self.recm.anchors
        if self._few is None or self._few[0] is not anchors:
            self._few = (anchors, coarsen(anchors.cloud(), bounds.DRAWN_GAUSSIANS))
        few = self._few[1].to(prediction.effect.poses.device)
        return [few.transformed(pose) for pose in prediction.effect.poses]

    def _agreement(self, prediction: Prediction, batch: ViewBatch) -> Tensor:
        """Correlation (B,) of the pictures' local contrast with that of the predicted vertebra."""
        size = (batch.size_px, batch.size_px)
        scores = []
        intrinsics = batch.intrinsics.cpu()
        for n, few in enumerate(self._few_gaussians(prediction)):
            drawn = torch.stack(
                [
                    rasterize(few, k, e, size)
                    for k, e in zip(intrinsics[n], batch.extrinsics[n], strict=True)
                ]
            )
            weight = (drawn > bounds.DRAWN_SHARE * drawn.amax()).to(drawn.dtype) * batch.valid[n]
            pictured = batch.pictures[n, :, 1]
            contrast = local_contrast(drawn, torch.ones_like(drawn), self.config.recm.pixel_mm)
            energy = (weight * pictured.square()).sum() * (weight * contrast.square()).sum()
            score = (weight * pictured * contrast).sum() / energy.clamp_min(1e-9).sqrt()
            scores.append(score)
        return torch.stack(scores)


def placed(clouds: Sequence[GaussianCloud], clouds_to_box: Tensor) -> list[GaussianCloud]:
    """Return clouds (B of them) in the box's frame, each where its pose (B, 4, 4) puts it."""
    pairs = zip(clouds, clouds_to_box, strict=True)
    return [cloud.to(pose.device).transformed(pose) for cloud, pose in pairs]


def _both(a: GaussianCloud, b: GaussianCloud, share: float) -> GaussianCloud:
    """Two clouds as one, ``share`` of the first one's density and the rest of the other's."""
    return GaussianCloud.concatenate(
        [
            replace(a, densities=share * a.densities),
            replace(b, densities=(1.0 - share) * b.densities),
        ]
    )


def _where(first: Tensor, a: Prediction, b: Prediction) -> Prediction:
    def pick(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(first.view(-1, *[1] * (x.dim() - 1)), x, y)

    def either(x: Deformation, y: Deformation) -> Deformation:
        return Deformation(pick(x.poses, y.poses), pick(x.stretch, y.stretch), pick(x.raw, y.raw))

    effect, factual = either(a.effect, b.effect), either(a.factual, b.factual)
    return Prediction(effect, factual, pick(a.attention, b.attention))


def save_model(path: Path, model: RadGSReg, card: dict[str, Any]) -> None:
    """Write a model and its card (JSON values: data, time, figures, limits), whole or not at all.

    Beside ``NAME.safetensors`` the card appears as ``NAME.md`` for people. Large weights of the
    networks are kept in half precision, which halves the file and changes answers by micrometres;
    anchors, in mm, are not.
    """
    path = Path(path)
    facts = {
        "schema": SCHEMA,
        "version": VERSION,
        "config": asdict(model.config),
        "anchors": len(model.recm.anchors),
        "card": card,
    }
    weights = {name for name, _ in model.named_parameters()} | {"shapes.modes"}
    state = model.state_dict()
    for name, weight in state.items():
        if name in weights and weight.numel() >= _LARGE and not name.startswith("recm.anchors."):
            state[name] = weight.half()
    save_tensors(path, state, facts)
    with output_file(path.with_suffix(".md")) as text:
        text.write_text(card_text(path.stem, card), encoding="utf-8")


def load_model(path: Path | str, device: torch.device | str = "cpu") -> RadGSReg:
    """Load a model that `save_model` wrote, ready for inference.

    Args:
        path: a ``.safetensors`` file.
        device: where its tensors go.

    Returns:
        RecM, RegM, detector and decoder (Shen et al., RadGS-Reg, 2025; docs/learning.md); the card
        is in ``model.card``.

    Raises:
        InputError: for a file that is missing, damaged, not a model of this program, or of another
            version of the format.

    Example:
        >>> from RadGSRegLib.networks import load_model, shipped_weights
        >>> model = load_model(shipped_weights())
        >>> model.card["use"]
        'Research only, not for clinical decisions.'
    """
    path = Path(path)
    tensors, facts = load_tensors(path)
    if facts.get("schema") != SCHEMA:
        raise InputError(path, "is not a model of this program", "train one with pretrain")
    if facts.get("version") != VERSION:
        raise InputError(
            path,
            f"was written in version {facts.get('version')} of the format, this program reads "
            f"version {VERSION}",
            "use the program it was trained with",
        )
    config = options_from(ModelConfig, facts.get("config", {}), path, ModelConfig())
    count = facts.get("anchors")
    if not isinstance(count, int) or not 0 < count < 10**6:
        raise InputError(path, "does not say how many anchors it has")
    unit = grid_cloud(1)
    blank = GaussianCloud(*(t.expand(count, *t.shape[1:]).contiguous() for t in unit.tensors))
    model = RadGSReg(config, blank)
    if model.recm.correspondence is not None:
        # Before files said which way is up, it was always the same.
        tensors.setdefault("recm.correspondence.up", model.recm.correspondence.up)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise InputError(path, f"does not fit its own configuration ({line})") from None
    if not all(bool(torch.isfinite(t).all()) for t in model.state_dict().values()):
        raise InputError(path, "holds numbers that are not finite", "train it again")
    model.card = dict(facts.get("card", {}))
    model.source = path
    return model.to(device).eval()


def card_text(name: str, card: dict[str, Any]) -> str:
    """Write a card as Markdown."""
    lines = [f"# {name}", ""]
    for key, value in card.items():
        if isinstance(value, dict):
            lines += [f"## {key}", ""]
            lines += [f"- {inner}: {_plain(v)}" for inner, v in value.items()]
            lines.append("")
        else:
            lines += [f"**{key}**: {_plain(value)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
