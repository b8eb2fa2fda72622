"""``python -m RadGSRegLib`` and the console command ``radgsreg``: `cli.main` in its own process."""

import gc
import sys

from .cli import main as run

# By default the collector looks through what was just imported hundreds of times.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def main() -> int:
    """Run the command that the process was started for; returns the exit status."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    status = run()
    # Nor need it look through everything once more before the process ends.
    gc.freeze()
    return status


if __name__ == "__main__":
    sys.exit(main())
