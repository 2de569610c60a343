"""Fetch plotly.js's basic bundle from npm into the package: `python docs/_plotly.py`.

To take a newer one, change `PLOTLY_PACKAGE` in `candletune/assets/__init__.py`, run this, and put the hash that it
prints there as well. A test holds the file to the hash.
"""

import hashlib
import subprocess
import tarfile

from candletune.assets import FOLDER, PLOTLY, PLOTLY_PACKAGE


def main() -> None:
    """Write the bundle and its licence; print the hash."""
    subprocess.run(["npm", "pack", PLOTLY_PACKAGE, "--silent"], check=True, cwd=FOLDER)  # noqa: S603, S607
    (packed,) = FOLDER.glob("*.tgz")
    with tarfile.open(packed) as archive:
        for name, target in ((PLOTLY, PLOTLY), ("LICENSE", "plotly-LICENSE")):
            member = archive.extractfile(f"package/{name}")
            if member is None:
                raise SystemExit(f"{PLOTLY_PACKAGE} has no {name}")
            (FOLDER / target).write_bytes(member.read())
    packed.unlink()
    print(hashlib.sha256((FOLDER / PLOTLY).read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
