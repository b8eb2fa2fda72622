"""Batches by the number of their step; for a GPU the next one is made and copied ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor


class Carrier(Protocol):
    """Brings batches to a device; the calling thread does not wait for the copy."""

    def send(self, batch: Any) -> Any:
        """Begin to copy a batch; called in a thread of its own."""

    def receive(self, sent: Any) -> Any:
        """Return what was sent, for the calling thread to compute with."""


class PinnedCopies:
    """Copies from pinned memory on a stream of their own, beside what the device computes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def send(self, batch: Any) -> Any:
        """Begin to copy; the batch on the device, and the event after which it is whole."""

        def sent(tensor: Tensor) -> Tensor:
            # Simulated X-rays are there already.
            if tensor.is_cuda:
                return tensor
            return tensor.pin_memory().to(self.device, non_blocking=True)

        with torch.cuda.stream(self.stream):
            there = each(batch, sent)
            return there, self.stream.record_event()

    def receive(self, sent: Any) -> Any:
        """Let the current stream wait for a batch; the memory is not used anew before it is done
        with it."""
        batch, arrived = sent
        current = torch.cuda.current_stream(self.device)
        current.wait_event(arrived)

        def hold(tensor: Tensor) -> Tensor:
            tensor.record_stream(current)
            return tensor

        return each(batch, hold)


class Ahead:
    """Batches on ``device`` by the number of a step, which alone says what ``make`` makes.

    With a ``carrier`` (on CUDA `PinnedCopies`) a thread makes and sends the batch of the next step,
    if it is before ``stop``, while this one is worked on: it changes nothing but the waiting.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        device: torch.device,
        stop: int,
        carrier: Carrier | None = None,
    ) -> None:
        self._make, self._device, self._stop = make, device, stop
        if carrier is None and device.type == "cuda":
            carrier = PinnedCopies(device)
        self._carrier = carrier
        self._coming: dict[int, Future[Any]] = {}
        self._thread = None if carrier is None else ThreadPoolExecutor(1, "radgsreg-batch")

    def take(self, step: int) -> Any:
        """Return the batch of a step."""
        if self._carrier is None or self._thread is None:
            return each(self._make(step), lambda t: t.to(self._device))
        coming = self._coming.pop(step, None)
        sent = self._send(step) if coming is None else coming.result()
        if step + 1 < self._stop and step + 1 not in self._coming:
            self._coming[step + 1] = self._thread.submit(self._send, step + 1)
        return self._carrier.receive(sent)

    def close(self) -> None:
        """Wait for what has begun; what has not is dropped."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._coming.clear()

    def _send(self, step: int) -> Any:
        assert self._carrier is not None
        return self._carrier.send(self._make(step))


def each(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a dataclass of tensors, and of others like it or tuples of them, with a change to each
    tensor."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, tuple):
        return tuple(each(part, change) for part in batch)
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{name: each(part, change) for name, part in parts.items()})
