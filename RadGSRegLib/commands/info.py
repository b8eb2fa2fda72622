"""``radgsreg info``: versions, devices, and the backends with why not, where one does not work."""

import argparse
import os

from ..system import ExitStatus, Interrupt, Progress
from .command import Command, Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def run(args: argparse.Namespace, progress: Progress, interrupt: Interrupt) -> Outcome:
    """Say what is installed, and what of it works."""
    import torch

    from ..cases import software_versions
    from ..gaussians import available_backends

    lines = [f"{name} {version}" for name, version in software_versions().items()]
    lines.append(f"device cpu: works ({os.cpu_count()} cores, {torch.get_num_threads()} threads)")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            memory = properties.total_memory / 2**30
            lines.append(f"device cuda:{number}: works ({properties.name}, {memory:.0f} GiB)")
    else:
        built = torch.version.cuda is not None
        why = "no CUDA device or driver found" if built else "this torch is built without CUDA"
        lines.append(f"device cuda: does not work ({why})")
    for name, problem in available_backends().items():
        state = f"does not work ({problem})" if problem else "works"
        lines.append(f"backend {name}: {state}")
    return Outcome(ExitStatus.OK, tuple(lines))


COMMAND = Command(
    "info", "versions, devices, backends, and which of them work here", add_arguments, run
)
