"""``python -m qkt.cli``: the same as ``qkt``."""

import sys

from qkt.cli import main

sys.exit(main())
