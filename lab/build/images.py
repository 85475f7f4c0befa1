"""Container images, built here from `images/NAME/Containerfile`, and the store that every node starts with.

A Containerfile's comments `# needs: ARTIFACT/PATH` name the files of other artifacts in its build
context, under the last part of the path; `# needs: host:/PATH` a file of the host. `FROM lab.local/NAME:lab`
refers to another image of the lab.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

from lab.build.cache import PACKAGE, Artifact
from lab.build.materials import artifacts, program
from lab.machine.processes import Command, CommandFailedError, run

IMAGES = PACKAGE / "images"


def reference(name: str) -> str:
    """How pods name an image of the lab."""
    return f"lab.local/{name}:lab"


@cache
def images() -> dict[str, Artifact]:
    """Every image as an artifact holding `image.tar` (an OCI archive), bases before what is built on them."""
    found: dict[str, Artifact] = {}
    waiting = {file.parent.name: file.read_text() for file in sorted(IMAGES.glob("*/Containerfile"))}
    while waiting:
        name = next(name for name, text in waiting.items() if set(_bases(text)) <= found.keys())
        found[name] = _image(name, waiting.pop(name), found)
    return found


def _bases(containerfile: str) -> list[str]:
    return re.findall(r"^FROM lab\.local/([\w-]+):lab", containerfile, flags=re.MULTILINE)


def _needs(containerfile: str) -> list[str]:
    return re.findall(r"^# needs: (\S+)", containerfile, flags=re.MULTILINE)


def _source(need: str) -> Path:
    if need.startswith("host:"):
        return Path(need.removeprefix("host:"))
    artifact, _, path = need.partition("/")
    return artifacts()[artifact].path / path


def _image(name: str, containerfile: str, others: dict[str, Artifact]) -> Artifact:
    bases = [others[base] for base in _bases(containerfile)]
    inputs = [str(artifacts()[need.partition("/")[0]].path) for need in _needs(containerfile) if ":" not in need]

    def make(into: Path) -> None:
        storage: Command = ["--root", into / "storage", "--runroot", into / "run"]
        context = into / "context"
        configuration = into / "containers.conf"
        # Its default is a directory of the host, which it would make.
        configuration.write_text(f'[network]\nnetwork_config_dir = "{into / "run"}"\n')
        env = {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(configuration)}
        shutil.copytree(IMAGES / name, context)
        for need in _needs(containerfile):
            run("cp", "--archive", _source(need), context / Path(need).name)
        try:
            for base in bases:
                run("buildah", *storage, "pull", "-q", f"oci-archive:{base.path / 'image.tar'}", env=env)
            run("buildah", *storage, "bud", "-q", "--pull-never", "-t", reference(name), context, env=env)
            archive = f"oci-archive:{into / 'image.tar'}:{reference(name)}"
            run("buildah", *storage, "push", "-q", reference(name), archive, env=env)
        finally:
            subprocess.run(["umount", "--quiet", into / "storage" / "overlay"], check=False, capture_output=True)
            for directory in ("storage", "run", "context"):
                shutil.rmtree(into / directory, ignore_errors=True)
            configuration.unlink()

    inputs += [str(base.path) for base in bases]
    return Artifact(f"image-{name}", (IMAGES / name, *inputs), make, 0.3)


@cache
def image_store() -> Artifact:
    """A containerd root with all images unpacked: nodes start with copies of it and import nothing."""
    inputs = [str(image.path) for image in images().values()]
    return Artifact("image-store", (str(artifacts()["platform"].path), *inputs), _fill_store, 1)


def _fill_store(into: Path) -> None:
    state = into / "state"
    socket = state / "containerd.sock"
    configuration = (
        f'version = 3\nroot = "{into}"\nstate = "{state}"\ndisabled_plugins = ["io.containerd.cri.v1.images", '
    )
    configuration += f'"io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{socket}"\n'
    (into / "config.toml").write_text(configuration)
    with (into / "log").open("wb") as log:
        containerd = subprocess.Popen([program("containerd"), "--config", into / "config.toml"], stdout=log, stderr=log)
    try:
        _await(socket)
        for image in images().values():
            run(
                program("ctr"),
                "--address",
                socket,
                "-n",
                "k8s.io",
                "images",
                "import",
                "--local",
                image.path / "image.tar",
            )
    finally:
        containerd.terminate()
        containerd.wait()
    shutil.rmtree(state)
    for name in ("config.toml", "log"):
        (into / name).unlink()


def _await(socket: Path) -> None:
    """Wait until containerd answers; a minute is much more than the second it takes."""
    for _ in range(600):
        try:
            run(program("ctr"), "--address", socket, "version")
        except CommandFailedError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"expected: containerd to answer on {socket} within 60 s; seen: nothing")
