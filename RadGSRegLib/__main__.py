"""``python -m RadGSRegLib``: the same as the console command ``radgsreg``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
