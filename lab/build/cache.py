"""The cache: what is built lies under the hash of everything it was made from, and is built once."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab import layout

PACKAGE = Path(__file__).parents[1]
VERSIONS = PACKAGE / "versions"
"""Versions of all that is built: Go modules and the npm package, each with its lock file."""
SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"]).resolve()
"""Where the toolchains that come as wheels lie."""


@dataclass(frozen=True)
class Artifact:
    """A directory in the cache."""

    name: str
    inputs: tuple[str | Path, ...]
    """Files and directories by content; texts (versions, commands, other artifacts' paths) as they are."""
    make: Callable[[Path], None]
    """Fills an empty directory. Its source text is an input too."""
    minutes: float
    """How long it takes with two cores and empty caches: told to whoever waits."""

    @cached_property
    def path(self) -> Path:
        """Where it lies once it is built."""
        return layout.CACHE / self.name / digest(*self.inputs, inspect.getsource(self.make))

    @property
    def built(self) -> bool:
        """Whether it is in the cache."""
        return self.path.exists()

    def build(self) -> None:
        """Build it, unless it is in the cache; what was half built is never seen under its final name."""
        if self.built:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=self.path.parent))
        try:
            draft.chmod(0o755)
            self.make(draft)
            draft.rename(self.path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def digest(*inputs: str | Path) -> str:
    """Hash of texts, and of files by relative name and content; 16 hex digits."""
    total = hashlib.sha256()
    for given in inputs:
        if isinstance(given, str):
            total.update(f"{given}\n".encode())
            continue
        for file in [given] if given.is_file() else sorted(given.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(f"{file.relative_to(given.parent)}\n".encode())
                total.update(file.read_bytes())
    return total.hexdigest()[:16]


def lab_digest() -> str:
    """Hash of all that a running lab was built from: this package and the packages it runs on."""
    return digest(PACKAGE, PACKAGE.parent / "requirements.lock", sys.version)
