"""`python -m crowdloc`: the command `crowdloc`."""

from __future__ import annotations

import sys

from crowdloc.cli import main

if __name__ == "__main__":
    sys.exit(main())
