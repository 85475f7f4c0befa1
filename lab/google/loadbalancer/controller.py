"""The loop that keeps Envoy and the API server's statuses at what the objects ask for."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lab.google.loadbalancer import readiness, resource_names
from lab.google.loadbalancer.configuration import gateways, policies, routes, status
from lab.google.loadbalancer.dataplane import envoy, neg, programme
from lab.google.loadbalancer.dataplane.backends import Backend, cluster, load_assignment
from lab.google.loadbalancer.objects import Object, Objects, Problem, key
from lab.google.loadbalancer.reporter import Reporter, timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from lab.google.loadbalancer.dataplane.programme import Programme
    from lab.google.loadbalancer.mirror import Mirror
    from lab.kubernetes_api import Api

log = logging.getLogger(__name__)

STEADY_SECONDS = 1.0
"""How often Envoy is asked whether it lives while nothing changes."""
CHANGING_SECONDS = 0.25
"""The same while an endpoint, a pod or a Gateway waits for something."""
SETTLE_SECONDS = 0.05
"""Changes come in bursts."""


class Controller:
    """Everything between the mirror and Envoy's files. Its memory is in the directory; it may be killed at any time."""

    def __init__(self, api: Api, mirror: Mirror, directory: Path) -> None:
        self._mirror = mirror
        self._reporter = Reporter(api)
        self._xds = directory / "xds"
        self._files = envoy.Files(self._xds)
        self._kept = directory / "programmes.json"
        self._groups = neg.EndpointGroups(
            directory / "neg.json", delays=lambda: neg.delays(directory / "delays.json"), clock=time.time
        )
        self._programmes = _load(self._kept)
        self._backends = _backends(self._programmes, set())
        self._gateways: dict[str, gateways.Gateway] = {}
        self._parents: list[routes.Parent] = []
        self._policies: list[policies.Policy] = []
        self._listening: set[str] = set()

    def run(self) -> None:
        """Run for ever."""
        version, pause = -1, STEADY_SECONDS
        while True:
            seen = self._mirror.wait(version, pause)
            time.sleep(SETTLE_SECONDS)
            objects = self._mirror.objects()
            if objects is None:
                version, pause = seen, STEADY_SECONDS
                continue
            try:
                busy = self._step(objects, changed=seen != version)
            except Exception:
                # One odd object must not end the load balancer; the log tells which step failed.
                log.exception("step failed")
                busy = False
            version, pause = seen, CHANGING_SECONDS if busy else STEADY_SECONDS

    def wants_gate(self, namespace: str, pod: Object) -> bool:
        """Whether a pod about to be created belongs to a Service that already is a backend."""
        objects = self._mirror.objects()
        return objects is not None and bool(readiness.selected_by(objects, self._backends.values(), namespace, pod))

    def _step(self, objects: Objects, *, changed: bool) -> bool:
        """Bring everything up to date; returns whether something waits."""
        if changed:
            self._translate(objects)
        if changed or self._groups.changing():
            self._serve(objects)
        listening = envoy.listening()
        if changed or listening != self._listening or self._reporter.failed:
            self._listening = listening
            self._reporter.failed = False
            self._report(objects)
        waiting = readiness.waiting_pods(objects)
        if waiting:
            self._judge(objects, waiting)
        return bool(waiting) or self._groups.changing() or any(self._problems().values())

    def _translate(self, objects: Objects) -> None:
        self._gateways = gateways.read(objects)
        self._parents = routes.read(objects, self._gateways)
        self._policies = policies.read(objects)
        checks = policies.health_checks(self._policies)
        fresh = {
            each.key: programme.build(objects, each, self._parents, checks, self._xds)
            for each in self._gateways.values()
            if each.problem is None
        }
        kept = {each: old for each, old in self._programmes.items() if each in self._gateways} | fresh
        if kept != self._programmes:
            _save(self._kept, kept)
            self._annotate(kept)
        self._programmes = kept
        self._backends = _backends(kept, set(fresh))

    def _annotate(self, programmes: dict[str, Programme]) -> None:
        """Note the Google resources on each Gateway whose programme is new."""
        for each, new in programmes.items():
            if new != self._programmes.get(each):
                backends = [Backend.load(fields) for fields in new.backends.values()]
                noted = resource_names.resource_annotations(self._gateways[each], new, backends)
                noted["networking.gke.io/last-reconcile-time"] = timestamp()
                self._reporter.annotations("Gateway", self._gateways[each].obj, noted)

    def _serve(self, objects: Objects) -> None:
        backends = self._backends
        self._groups.update(
            {name: neg.qualifying(objects, each.namespace, each.service, each.port) for name, each in backends.items()}
        )
        programmes = self._programmes.values()
        files: dict[str, list[Object]] = {
            f"endpoints/{name}.json": [load_assignment(each, self._groups.attached(name))]
            for name, each in backends.items()
        }
        files |= {f"secrets/{name}.json": [each] for one in programmes for name, each in one.secrets.items()}
        files[envoy.CLUSTERS] = [cluster(each, self._xds) for each in backends.values()]
        files |= {f"routes/{name}.json": [each] for one in programmes for name, each in one.routes.items()}
        files[envoy.LISTENERS] = [each for one in programmes for each in one.listeners]
        self._files.write(files)
        self._files.remove_others(files)

    def _problems(self) -> dict[str, Problem | None]:
        """What keeps each Gateway from being programmed."""
        return {each.key: each.problem or self._data_plane_problem(each) for each in self._gateways.values()}

    def _data_plane_problem(self, gateway: gateways.Gateway) -> Problem | None:
        if not self._listening:
            return Problem("Pending", "RESOURCE_NOT_READY: the data plane is not live.")
        ports = {listener.spec["port"] for listener in gateway.listeners if listener.usable}
        missing = sorted(port for port in ports if f"{gateway.address}:{port}" not in self._listening)
        if missing or not ports:
            return Problem("Pending", f"RESOURCE_NOT_READY: the data plane does not serve ports {missing} yet.")
        return None

    def _report(self, objects: Objects) -> None:
        now, report, problems = timestamp(), self._reporter, self._problems()
        for each in gateways.our_classes(objects):
            report.status("GatewayClass", each, status.of_class(each, now))
        for gateway in self._gateways.values():
            problem, addressed = problems[gateway.key], gateway.key in self._programmes
            report.seen("Gateway", gateway.obj)
            wanted = status.of_gateway(gateway, problem, self._parents, addressed=addressed, now=now)
            report.status("Gateway", gateway.obj, wanted)
            # What the data plane has not taken up yet is neither a success nor a failure to translate.
            if problem is None or gateway.problem:
                failure = f'failed to translate Gateway "{gateway.key}": {problem.message}' if problem else None
                report.synced("Gateway", gateway.obj, "sync", f"SYNC on {gateway.key} was a success", failure)
        for policy in self._policies:
            self._report_policy(policy, now)
        for route in objects.all("HTTPRoute"):
            self._report_route(route, problems, now)

    def _report_policy(self, policy: policies.Policy, now: str) -> None:
        self._reporter.seen("HealthCheckPolicy", policy.obj)
        self._reporter.status("HealthCheckPolicy", policy.obj, status.of_policy(policy, now))
        subject = f'Application of HealthCheckPolicy "{key(policy.obj)}"'
        failure = f"{subject} failed: {policy.problem.message}" if policy.problem else None
        self._reporter.synced("HealthCheckPolicy", policy.obj, "sync", f"{subject} was a success", failure)

    def _report_route(self, route: Object, problems: dict[str, Problem | None], now: str) -> None:
        parents = [each for each in self._parents if each.route is route]
        wanted = status.of_route(route, parents, problems, now)
        self._reporter.status("HTTPRoute", route, wanted)
        if parents:
            self._reporter.seen("HTTPRoute", route)
        for parent in parents:
            subject = f'HTTPRoute "{key(route)}" bound to {parent.described}'
            problem = parent.refused or status.unresolved(parent) or parent.gateway.problem
            if problem is None and problems[parent.gateway.key]:
                continue
            failure = f"Reconciliation of {subject} failed: error cause: {problem.message}" if problem else None
            success = f"Reconciliation of {subject} was a success"
            self._reporter.synced("HTTPRoute", route, parent.described, success, failure)

    def _judge(self, objects: Objects, waiting: list[Object]) -> None:
        healthy = envoy.healthy_endpoints()
        backends = list(self._backends.values())
        for pod in waiting:
            verdict = readiness.judge(objects, backends, self._groups, pod, healthy=healthy, now=datetime.now(UTC))
            self._reporter.readiness(pod, readiness.condition(pod), verdict)


def _backends(programmes: dict[str, Programme], fresh: set[str]) -> dict[str, Backend]:
    """The backends of all programmes; of two versions that of a fresh one counts."""
    ordered = sorted(programmes, key=lambda gateway: gateway in fresh)
    return {name: Backend.load(fields) for gateway in ordered for name, fields in programmes[gateway].backends.items()}


def _load(path: Path) -> dict[str, Programme]:
    if not path.exists():
        return {}
    return {gateway: programme.Programme(**fields) for gateway, fields in json.loads(path.read_text()).items()}


def _save(path: Path, programmes: dict[str, Programme]) -> None:
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({gateway: asdict(each) for gateway, each in programmes.items()}))
    draft.replace(path)
