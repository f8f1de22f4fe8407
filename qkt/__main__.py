"""``python -m qkt``: the same as the command ``qkt``."""

import sys

from qkt.cli import main

sys.exit(main())
