"""`python -m crowdloc.datasets.synthcrowd manifest [ROOT]`: generate every mini scene and write the manifest anew."""

from __future__ import annotations

import sys
from pathlib import Path

from crowdloc.datasets.synthcrowd.manifest import verify_manifest, write_manifest
from crowdloc.datasets.synthcrowd.store import default_root

if __name__ == "__main__":
    command, *rest = [*sys.argv[1:], ""]
    if command not in ("manifest", "verify"):
        sys.exit("usage: python -m crowdloc.datasets.synthcrowd manifest|verify [ROOT]")
    root = Path(rest[0]) if rest[0] else default_root()
    if command == "manifest":
        write_manifest(root)
    else:
        print(f"{verify_manifest(root)} scenes agree with the manifest")
