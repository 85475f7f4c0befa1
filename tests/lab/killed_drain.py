"""A run that drains a node and is killed with SIGKILL at one of its steps: before or after the request that makes it.

python -m tests.lab.killed_drain ENVIRONMENT NODE STEP before|after
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
from fixtures.disruption.blast_radius import Limits, planned
from fixtures.disruption.drain import drained
from fixtures.environment import file as environment_file
from fixtures.environment import target
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.lease.journal import ANNOTATION
from fixtures.objects.manifest import Field
from fixtures.reference.reference import render

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


class Doomed(Api):
    """Kills its process at a step."""

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
    """The run."""
    Doomed.step, Doomed.when = step, when
    tenure.Api = Doomed  # type: ignore[attr-defined] # what the run makes its requests with
    draft = environment_file.read(environment_name)
    facts = target.facts(draft.target, within=60)
    environment = draft.completed(facts).environment
    names = environment.namespaces
    guard = Guard(environment.permissions, Namespaces(names.deployment, names.route, names.gateway))
    client = connect(guard, kubeconfig=environment.cluster.kubeconfig)
    reference = render(environment.reference.source, namespace=names.deployment)
    with tenure.holding(environment, client, reference) as held:
        plan = planned(node, own=names.deployment, api=held.api, limits=Limits(seconds=120))
        with drained(plan, held.api, held.journal, lease=str(held.lease), go_on=held.lease.check):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
