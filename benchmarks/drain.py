"""Compares the suite's drain of a node with `kubectl drain`, in alternation, and prints a table of the times.

    .venv/bin/python -m benchmarks.drain --kubeconfig=.lab/kubeconfig [--env=local] [--times=5]

The environment must allow `disrupt`, and kubectl needs an identity that may also read DaemonSets and pods of all
namespaces. The drained node is that of a Ready pod of the deployment. Before each drain, all pods of the deployment are
Ready and no pod of an earlier drain is left.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fixtures.api.client import connect
from fixtures.disruption.blast_radius import Limits, plan_drain
from fixtures.disruption.drain import drained
from fixtures.disruption.steady_state import Maintained
from fixtures.disruption.tenure import Tenure, holding
from fixtures.environment import loading, target
from fixtures.environment.environment import Environment
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import Namespaces
from fixtures.reference.reference import render

KUBECTL = Path(sys.executable).with_name("kubectl")


def drain_by_suite(tenure: Tenure, own: str, node: str, seconds: float) -> float:
    """Seconds until the node is empty; the uncordon afterwards is not measured."""
    began = time.monotonic()
    plan = plan_drain(node, namespace=own, api=tenure.api, limits=Limits(seconds=seconds))
    with drained(plan, tenure.api, tenure.journal, lease=str(tenure.lease), abort_check=tenure.lease.check):
        return time.monotonic() - began


def drain_by_kubectl(kubeconfig: Path, node: str, seconds: float) -> float:
    """The same with kubectl, whose warnings and errors go to standard error."""
    kubectl = (KUBECTL, f"--kubeconfig={kubeconfig}")
    options = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds:.0f}s")
    began = time.monotonic()
    try:
        subprocess.run([*kubectl, "drain", node, *options], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began
    finally:
        subprocess.run([*kubectl, "uncordon", node], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def connected(name: str) -> Iterator[tuple[Environment, Maintained, Tenure]]:
    """Connect to an environment and take the Lease on its deployment."""
    draft = loading.read(name)
    environment = draft.completed(target.make_ready(draft.target, within=draft.timeouts.target_ready)).environment
    names = environment.namespaces
    guard = Guard(environment.permissions, Namespaces(names.deployment, names.route, names.gateway))
    client = connect(guard, kubeconfig=environment.cluster.kubeconfig, context=environment.cluster.context)
    reference = render(environment.reference.source, namespace=names.deployment)
    with holding(environment, client, reference) as tenure:
        yield environment, Maintained(reference, client, environment.timeouts), tenure


def node_with_ready_pod(maintained: Maintained) -> str:
    """Wait until the deployment is steady and complete; returns the node of one of its Ready pods."""
    maintained.steady()
    ready = maintained.ready_pods()
    maintained.wait_until_replaced((), len(ready))
    return ready[0].node


def main() -> None:
    """Alternate between both drains, so that a change of the machine's speed affects them equally."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--env", default="local")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"ours": [], "kubectl drain": []}
    with connected(options.env) as (environment, maintained, tenure):
        own, seconds = environment.namespaces.deployment, environment.timeouts.drain
        methods: dict[str, Callable[[str], float]] = {
            "ours": lambda node: drain_by_suite(tenure, own, node, seconds),
            "kubectl drain": lambda node: drain_by_kubectl(options.kubeconfig, node, seconds),
        }
        for _ in range(options.times):
            for name, drain in methods.items():
                times[name].append(drain(node_with_ready_pod(maintained)))
    sys.stdout.write("| Drain | median, s | least | most |\n|---|---|---|---|\n")
    for name, seen in times.items():
        sys.stdout.write(f"| {name} | {statistics.median(seen):.1f} | {min(seen):.1f} | {max(seen):.1f} |\n")


if __name__ == "__main__":
    main()
