#!/usr/bin/env python3
"""Build the suite's image on a machine that reaches package registries but no image registry.

    image/build.py        # prints the path of the archive

The base is Debian's packages; buildah does the rest as `Containerfile` says. The archive lies in the lab's cache
under the hash of its inputs, and beside it the layers of the packages, which a change of the sources does not touch.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lab.build.cache import Artifact, digest  # noqa: E402 - a program that needs no installation
from lab.build.materials import SUITE  # noqa: E402
from lab.layout import CACHE  # noqa: E402
from lab.machine.processes import CommandFailedError, run  # noqa: E402

NAME = "lab.local/backstage-acceptance:lab"
BASE = "lab.local/debian-apt:lab"
CONTAINERFILE = ROOT / "Containerfile"
LOCK = ROOT / "requirements-suite.lock"
SETTINGS = {"pip.conf": Path("/etc/pip.conf"), "authorities": Path("/etc/ssl/certs/ca-certificates.crt")}
"""What this machine's clients of package registries are told; used while building, in no layer."""
MEGABYTE = 1000 * 1000


def copied() -> tuple[Path, ...]:
    """The sources that the Containerfile copies."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    return tuple(ROOT / name for line in lines for name in line.split())


def base() -> Artifact:
    """Debian as it is in every image of it: with apt."""
    command = ("mmdebstrap", "--variant=minbase", SUITE)

    def make(into: Path) -> None:
        run(*command, into / "root.tar")
        (into / "Containerfile").write_text("FROM scratch\nADD root.tar /\n")

    return Artifact("suite-base", command, make, 1)


def image() -> Artifact:
    """The image as an OCI archive."""
    foundation = base()
    layers = CACHE / "suite-layers" / digest(str(foundation.path), LOCK)

    def make(into: Path) -> None:
        foundation.build()
        buildah = Buildah(layers)
        settings = [f"--secret=id={name},src={file}" for name, file in SETTINGS.items() if file.exists()]
        try:
            buildah("bud", "--quiet", "--layers", "--timestamp=0", f"--tag={BASE}", foundation.path)
            words = ("--layers", "--timestamp=0", "--pull-never", f"--build-arg=BASE={BASE}", *settings)
            # Not by a name, which a build of another checkout may take away meanwhile.
            built = buildah("bud", "--quiet", *words, ROOT).strip()
            buildah("push", "--quiet", built, f"oci-archive:{into / 'image.tar'}:{NAME}")
        finally:
            buildah.end()

    return Artifact("suite-image", (str(foundation.path), CONTAINERFILE, LOCK, *copied()), make, 5)


class Buildah:
    """buildah with a store of its own, which it finds again."""

    def __init__(self, store: Path) -> None:
        self._store = store
        store.mkdir(parents=True, exist_ok=True)
        # Its default is a directory of the host, which it would make.
        (store / "containers.conf").write_text(f'[network]\nnetwork_config_dir = "{store / "networks"}"\n')

    def __call__(self, command: str, *words: str | Path) -> str:
        """What it prints."""
        storage = ("--root", self._store / "storage", "--runroot", self._store / "run")
        env = {
            "STORAGE_DRIVER": "overlay",
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(self._store / "containers.conf"),
        }
        return run("buildah", *storage, command, *words, env=env)

    def end(self) -> None:
        """Leave no mount behind."""
        with contextlib.suppress(CommandFailedError):
            run("umount", "--quiet", self._store / "storage" / "overlay")


def main() -> int:
    """Build it, unless it is in the cache; tell where it is and how large."""
    built = image()
    if not built.built:
        sys.stderr.write("building the suite's image (about 5 min; 1 min where only the sources are new)\n")
    try:
        built.build()
    except CommandFailedError as error:
        sys.stderr.write(f"expected: the image to be built; seen: {error}; look next: Containerfile\n")
        return 1
    archive = built.path / "image.tar"
    sys.stderr.write(f"{NAME}, {archive.stat().st_size / MEGABYTE:.0f} MB\n")
    sys.stdout.write(f"{archive}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
