"""One command for the three stages: data in, a model and its card out."""

import copy
import time
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..networks import RadGSReg, load_model, save_model
from ..system import Progress, one_torch_thread
from . import bounds
from .board import board
from .card import Done, model_card
from .config import TrainingConfig
from .decoding import DecoderTrainer
from .detection import DetectorTrainer
from .figures import reconstruction_figures
from .loop import Around, History
from .patient import finish_patient_model, patient_model
from .pool import SamplePool
from .population import population_model
from .samples import SampleOptions
from .shapes import SHAPES, shape_facts
from .stages import Pretraining, TrainingData, identity, training_data
from .trainer import Trainer
from .whole_views import whole_views
from .work import claim


def pretrain(
    asked: Pretraining, config: TrainingConfig, progress: Progress | None = None
) -> History:
    """Train one stage and write the model; returns what was measured on the way.

    Raises InputError for data that is missing or unusable, and Cancelled when ``progress`` says so
    (nothing is written then, but a ``work`` folder keeps what is needed to go on).
    """
    asked.check()
    report = progress or Progress()
    temporary = TemporaryDirectory(prefix="radgsreg-") if asked.work is None else nullcontext()
    with temporary as folder:
        work = Path(folder) if isinstance(folder, str) else asked.work
        assert work is not None
        history = _Stage(asked, config, work).run(report)
    report(1.0, f"trained: {asked.out}")
    return history


class _Stage:
    """One stage of training in its work folder."""

    def __init__(self, asked: Pretraining, config: TrainingConfig, work: Path) -> None:
        self.asked, self.config, self.work = asked, config, work
        self.began = time.perf_counter()

    def run(self, report: Progress) -> History:
        """Train, measure, and write the model; returns what was measured on the way."""
        asked, work = self.asked, self.work
        base = None if asked.base is None else load_model(asked.base)
        self.decoded_before = base is not None and base.decoder is not None
        torch.manual_seed(self.config.seed)
        # Neither is one added that nothing would be trained, nor that of a base trained unasked.
        if asked.stage != 1 or self.config.decoding.share == 0.0:
            networks = replace(self.config.model, decoder=None)
            self.config = replace(self.config, model=networks)
        self.decodes = self.config.model.decoder is not None
        report(0.0, "preparing the data")
        data = training_data(asked, self.config, work)
        claim(work, identity(asked, self.config, data))
        if self.config.detection.share == 0.0:
            # One that was never trained must not be trusted: without it, crops are scanned.
            networks = replace(self.config.model, detector=None)
            self.config = replace(self.config, model=networks)
        with one_torch_thread():
            if asked.stage == 3:
                model = patient_model(data.train[0].subject(), self.config, base)
            else:
                part = report.part(0.0, 0.05)
                model = population_model(asked, self.config, data, base, work, part)
        config = self.config = replace(self.config, model=model.config)
        trainer, history = self._train(model, data, report.part(0.05, 0.98))
        if asked.stage == 3:
            with one_torch_thread():
                finish_patient_model(model, data.train[0].subject(), config)
        if trainer.rank == 0:
            minutes = self._minutes()
            report(0.98, "measuring reconstructions")
            held = trainer.unseen or trainer.pool
            with one_torch_thread():
                count = min(config.validate, bounds.MEASURED_PAIRS)
                # With a decoder it need not be told shapes, and is measured so.
                told = () if model.decoder is not None else (trainer.vertebrae,)
                quality = reconstruction_figures(model, held, count, *told)
            gaussians = len(model.recm.anchors)
            done = Done(trainer.step, minutes, trainer.compiled.works, gaussians)
            card = model_card(asked, config, base, data.facts, history, quality, done)
            if model.shapes is not None:
                kept = {} if base is None else base.card.get(SHAPES, {})
                card[SHAPES] = shape_facts(work) or kept
            save_model(asked.out, model, card)
        history.notes = [*data.ledger.notes, *history.notes]
        return history

    def _train(
        self, model: RadGSReg, data: TrainingData, report: Progress
    ) -> tuple[Trainer, History]:
        """Train the detector, if there is one, and then the rest."""
        asked, config, detector = self.asked, self.config, model.detector
        pool, unseen = self._pools(data, config.samples, "pairs", "unseen")
        with board(asked.board) as log, closing(pool):
            compute = config.compute(asked.device)
            around: Around = {"compute": compute, "folder": self.work, "log": log}
            around["unseen"] = unseen
            trainer = Trainer(model, pool, config, **around)
            rest = config.decoding.share if self.decodes else 0.0
            share = 0.0 if detector is None or rest == 1.0 else config.detection.share
            detection = History()
            if detector is not None and share > 0:
                options = whole_views(config.samples, detector.config)
                views, around["unseen"] = self._pools(data, options, "views", "unseen-views")
                own = model.is_patient_specific
                finder = DetectorTrainer(detector, views, config.detection, own=own, **around)
                minutes = self._left()
                minutes = None if minutes is None else share * minutes
                part = report.part(0.0, share)
                detection = finder.run(part, minutes, asked.is_enough)
            state = None if detector is None else copy.deepcopy(detector.state_dict())
            left = self._left()
            part = report.part(share, 1.0 - (1.0 - share) * rest)
            first = None if left is None else (1.0 - rest) * left
            first = 0.0 if rest == 1.0 else first
            history = trainer.run(part, first, asked.is_enough)
            history.detection = detection.entries
            history.notes = list(dict.fromkeys(detection.notes + history.notes))
            if detector is not None and state is not None:
                # A checkpoint of the rest may hold an earlier state of the detector.
                detector.load_state_dict(state)
            if rest > 0.0:
                around["unseen"] = unseen
                decoding = DecoderTrainer(model, pool, config.decoding, **around)
                part = report.part(1.0 - (1.0 - share) * rest, 1.0)
                decoded = decoding.run(part, self._left(), asked.is_enough)
                history.decoding = decoded.entries
                history.notes = list(dict.fromkeys(history.notes + decoded.notes))
                if decoding.step == 0 and not self.decoded_before:
                    # It was told to stop: what was never trained must not be trusted.
                    model.without_decoder()
        return trainer, history

    def _pools(
        self, data: TrainingData, options: SampleOptions, name: str, unseen: str
    ) -> tuple[SamplePool, SamplePool | None]:
        """The pairs to train on and those to measure on, kept in folders of these names."""
        seed = self.config.seed
        workers = self.config.workers if name == "pairs" else 0
        device = self.asked.device
        pool = SamplePool(data.train, options, seed, self.work / name, workers, device)
        if not data.unseen:
            return pool, None
        folder = self.work / unseen
        return pool, SamplePool(data.unseen, options, seed + 1, folder, device=device)

    def _minutes(self) -> float:
        """How long it has taken so far."""
        return (time.perf_counter() - self.began) / 60.0

    def _left(self) -> float | None:
        """What is left of the budget (None: there is none)."""
        minutes = self.asked.minutes
        return None if minutes is None else max(minutes - self._minutes(), bounds.LEAST_MINUTES)
