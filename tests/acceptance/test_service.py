"""Promise service: requests to the Service reach Backstage."""

from __future__ import annotations

from fixtures.api.client import GuardedClient
from fixtures.api.live import Objects
from fixtures.api.pods import pods_of
from fixtures.environment.timeouts import Timeouts
from fixtures.platform.service import SERVICE_LABEL, ServiceBackends, portal_service, read_endpoints, target_ports
from fixtures.reference.reference import Reference
from fixtures.report.check import Check
from fixtures.waiting import wait_for


def test_endpoints_are_exactly_the_ready_pods(
    deployed: Reference, client: GuardedClient, objects: Objects, timeouts: Timeouts, check: Check
) -> None:
    """Requests to the Service reach every Backstage pod that is ready, and nothing else."""
    deployment, service = deployed.the("Deployment"), portal_service(deployed)
    ports = target_ports(service, deployment)

    backends = wait_for(
        f"the endpoints of {service} to be the Ready pods of {deployment} at port {', '.join(map(str, ports))}",
        lambda: ServiceBackends(ports, pods_of(deployment, client), read_endpoints(service, objects)),
        until=lambda read: read.exact,
        within=timeouts.settled,
        look_next=f"kubectl -n {service.namespace} get endpointslices -l {SERVICE_LABEL}={service.name} -o yaml",
    )

    check.decided_by("EndpointSlices of the Service")
    check.measured("endpoints", len(backends.endpoints), "")
