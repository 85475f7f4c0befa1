"""Everything that is started, in one place: what it needs, how it starts, when it is ready, how it stops.

`up` starts each part as soon as all it needs are ready; a part that is ready is left alone.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from lab import google_processes, google_state, layout
from lab.build.images import image_store
from lab.cluster import addons, controlplane, kubectl, nodes
from lab.machine import cgroups, network
from lab.machine.processes import Daemon


def _nothing() -> None:
    """For what `down` removes together with the lab's directory."""


@dataclass(frozen=True)
class Part:
    """One thing that `up` starts and `status` lists."""

    name: str
    start: Callable[[], None]
    ready: Callable[[], bool]
    stop: Callable[[], None] = _nothing
    needs: tuple[str, ...] = ()
    within: float = 120.0
    """Seconds from start to ready before `up` gives up: ten times what a busy machine took."""


def _process(daemon: Daemon, *needs: str) -> Part:
    return Part(daemon.name, daemon.start, daemon.ready, daemon.stop, needs)


def _node(name: str) -> Part:
    start = partial(nodes.start, name, image_store().path)
    return Part(name, start, nodes.node(name).ready, nodes.node(name).stop, ("network", "rbac"))


def _addon(addon: addons.Addon, *needs: str) -> Part:
    start = partial(_apply, addon)
    return Part(addon.name, start, partial(addons.rolled_out, addon), needs=(*needs, *addon.needs), within=300.0)


def _apply(addon: addons.Addon) -> None:
    ca_bundle = base64.b64encode(google_state.ca_bundle().encode()).decode()
    kubectl.apply(addons.documents(addon, CA_BUNDLE=ca_bundle))
    if addon.name == "gateway":
        kubectl.apply(google_state.gateway_secret())


def parts() -> Iterator[Part]:
    """Every part of the lab."""
    yield Part("cgroups", partial(cgroups.create, layout.NODES), partial(cgroups.exists, layout.NODES), cgroups.remove)
    yield Part("network", network.start, network.ready, network.stop, ("cgroups",))
    yield Part("identities", controlplane.make_certificates, controlplane.certificates_made)
    yield Part("google", google_state.create, google_state.created)

    yield _process(controlplane.etcd(), "network", "identities")
    yield _process(controlplane.api_server(), "etcd")
    yield _addon(addons.RBAC, "kube-apiserver", "google")
    # The controller manager exits if it cannot read its configuration from the API server yet.
    yield _process(controlplane.controller_manager(), "kube-apiserver")
    yield _process(controlplane.scheduler(), "kube-apiserver")
    for name in layout.NODES:
        yield _node(name)

    for daemon, needs in google_processes.daemons().values():
        yield _process(daemon, "network", "google", *needs)

    for addon in addons.ADDONS:
        yield _addon(addon, "rbac", "kube-controller-manager")
