"""`python -m crowdloc.datasets.synthcrowd manifest|verify [ROOT]`: write the manifest anew, or compare with it.

`… part ROOT PRESET DOMAIN/SPLIT/INDEX …` renders these scenes; `generate` starts it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.synthcrowd.freezing import verify_manifest, write_manifest
from crowdloc.datasets.synthcrowd.production import render_part
from crowdloc.datasets.synthcrowd.store import default_root


def main(command: str = "", *rest: str) -> str | int | None:
    if command == "part":
        return render_part(Path(rest[0]), rest[1], rest[2:])
    root = Path(rest[0]) if rest else default_root()
    try:
        if command == "manifest":
            write_manifest(root)
        elif command == "verify":
            print(f"{verify_manifest(root)} scenes agree with the manifest")
        else:
            return "usage: python -m crowdloc.datasets.synthcrowd manifest|verify [ROOT]"
    except CrowdlocError as error:
        return f"error: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
