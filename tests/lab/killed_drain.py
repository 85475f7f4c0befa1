"""Drains a node and kills itself with SIGKILL before or after the request of one of the steps.

    python -m tests.lab.killed_drain ENVIRONMENT NODE STEP before|after

A step is a key of `STEPS`, and ENVIRONMENT the name or path of an environment file.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from typing_extensions import override

from fixtures.api.client import connect
from fixtures.api.requests import Api
from fixtures.disruption import tenure
from fixtures.disruption.blast_radius import Limits, plan_drain
from fixtures.disruption.drain import drained
from fixtures.environment import loading, target
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.lease.journal import ANNOTATION
from fixtures.objects.manifest import Field
from fixtures.reference.reference import render

# Each step by how its request is recognised: method, path, body.
STEPS: Final[dict[str, Callable[[str, str, Any], bool]]] = {
    "lease taken": lambda method, path, _: method == "POST" and path.endswith("/leases"),
    "cordon noted": lambda method, _, body: method == "PUT" and "cordon of" in _journal(body),
    "node cordoned": lambda method, _, body: method == "PATCH" and body["spec"]["unschedulable"] is True,
    "pod evicted": lambda _method, path, _: path.endswith("/eviction"),
    "node uncordoned": lambda method, _, body: method == "PATCH" and body["spec"]["unschedulable"] is None,
    "cordon forgotten": lambda method, _, body: method == "PUT" and _journal(body) == "[]",
    "lease given back": lambda method, path, _: method == "DELETE" and "/leases/" in path,
}


def _journal(lease: Any) -> str:  # noqa: ANN401 - of any request
    return str(lease["metadata"]["annotations"].get(ANNOTATION, "")) if lease else ""


class SelfKillingApi(Api):
    """Kills its own process at the step, so that neither teardown nor signal handlers can run."""

    step = ""
    when = ""

    @override
    def once(self, method: str, path: str, **arguments: Any) -> Field:
        last = STEPS[self.step](method, path, arguments.get("body"))
        if last and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = super().once(method, path, **arguments)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def main(environment_name: str, node: str, step: str, when: str) -> None:
    """Hold the Lease and drain the node; returns only if the step's request is never sent."""
    SelfKillingApi.step, SelfKillingApi.when = step, when
    tenure.Api = SelfKillingApi  # type: ignore[attr-defined] # what the run makes its requests with
    draft = loading.read(environment_name)
    facts = target.facts(draft.target, within=60)
    environment = draft.completed(facts).environment
    names = environment.namespaces
    guard = Guard(environment.permissions, Namespaces(names.deployment, names.route, names.gateway))
    client = connect(guard, kubeconfig=environment.cluster.kubeconfig)
    reference = render(environment.reference.source, namespace=names.deployment)
    with tenure.holding(environment, client, reference) as held:
        plan = plan_drain(node, namespace=names.deployment, api=held.api, limits=Limits(seconds=120))
        with drained(plan, held.api, held.journal, lease=str(held.lease), abort_check=held.lease.check):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
