"""Drift: which differences between the reference and the live objects count, and which do not."""

from __future__ import annotations

import json

import pytest

from fixtures.objects.manifest import Body, Manifest
from fixtures.objects.quantity import quantity
from fixtures.reference import drift
from fixtures.reference.reference import Reference
from tests.unit.patched import ABSENT, patched, recorded_live, recorded_reference, with_object, with_patch

DEPLOYMENT = "Deployment backstage/backstage"
POD = "/spec/template/spec"
PORTAL = f"{POD}/containers/0"


def found(reference: Reference, live: dict[str, Body]) -> list[str]:
    """The differences, as text."""
    return [str(each) for each in drift.differences(reference, lambda body: live.get(str(Manifest(body))))]


def found_after(object_: str, pointer: str, value: object) -> list[str]:
    """The differences after one field of a live object was changed."""
    live = recorded_live()
    return found(recorded_reference(), {**live, object_: patched(live[object_], pointer, value)})


def found_for(kind: str, pointer: str, value: object) -> list[str]:
    """The differences after one field of the reference was changed."""
    return found(with_patch(recorded_reference(), kind, pointer, value), recorded_live())


def test_live_objects_of_the_lab_have_no_drift() -> None:
    """Fields that the API server, the HPA and controllers add to an applied object are no drift."""
    live = recorded_live()

    assert len(live) == 10
    assert found(recorded_reference(), live) == []


def test_object_that_is_absent_is_one_difference() -> None:
    """An absent object is one difference, not one for each of its fields."""
    live = recorded_live()
    del live["PodDisruptionBudget backstage/backstage"]

    assert found(recorded_reference(), live) == [
        "PodDisruptionBudget backstage/backstage: expected to exist, seen absent"
    ]


@pytest.mark.parametrize(
    ("object_", "pointer", "value", "difference"),
    [
        pytest.param(
            DEPLOYMENT,
            f"{PORTAL}/image",
            "lab.local/backstage:other",
            'spec.template.spec.containers[backstage].image: expected "lab.local/backstage:lab", '
            'seen "lab.local/backstage:other"',
            id="another image",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{PORTAL}/env/3/value",
            "6432",
            'spec.template.spec.containers[backstage].env[POSTGRES_PORT].value: expected "5432", seen "6432"',
            id="another variable",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{PORTAL}/resources/requests/memory",
            "641Mi",
            'spec.template.spec.containers[backstage].resources.requests.memory: expected "640Mi", seen "641Mi"',
            id="another request",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{PORTAL}/ports/0/containerPort",
            7008,
            "spec.template.spec.containers[backstage].ports[http].containerPort: expected 7007, seen 7008",
            id="another port",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{POD}/initContainers/0/args/0",
            "backstage-lab:us-east4:other",
            'spec.template.spec.initContainers[cloud-sql-proxy].args[0]: expected "backstage-lab:us-east4:backstage", '
            'seen "backstage-lab:us-east4:other"',
            id="another instance",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{PORTAL}/securityContext/allowPrivilegeEscalation",
            ABSENT,
            "spec.template.spec.containers[backstage].securityContext.allowPrivilegeEscalation: "
            "expected false, seen nothing",
            id="a false that is gone",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{POD}/volumes/0",
            ABSENT,
            'spec.template.spec.volumes[backstage-secrets]: expected {"csi": {"driver": '
            '"secrets-store-gke.csi.k8s.io", "readOnly": true, "volumeAttributes": {"secretProviderClass": '
            '"backstage"}}, "name": "backstage-secrets"}, seen nothing',
            id="no volume",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{POD}/tolerations/1/tolerationSeconds",
            300,
            "spec.template.spec.tolerations[1].tolerationSeconds: expected 30, seen 300",
            id="another toleration",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{POD}/topologySpreadConstraints/0/maxSkew",
            2,
            "spec.template.spec.topologySpreadConstraints[0].maxSkew: expected 1, seen 2",
            id="another spread",
        ),
        pytest.param(
            DEPLOYMENT,
            f"{PORTAL}/volumeMounts/0/readOnly",
            ABSENT,
            "spec.template.spec.containers[backstage].volumeMounts[backstage-secrets].readOnly: "
            "expected true, seen nothing",
            id="a writable mount",
        ),
        pytest.param(
            "Service backstage/backstage",
            "/spec/selector/canary",
            "yes",
            'spec.selector.canary: expected nothing, seen "yes"',
            id="a narrower selector",
        ),
        pytest.param(
            "HTTPRoute backstage/backstage",
            "/spec/rules/0/timeouts",
            {"request": "5s"},
            'spec.rules[0].timeouts: expected nothing, seen {"request": "5s"}',
            id="more in a list that is taken as a whole",
        ),
        pytest.param(
            "HTTPRoute backstage/backstage",
            "/spec/hostnames/-",
            "other.lab.test",
            'spec.hostnames: expected ["backstage.lab.test"], seen ["backstage.lab.test", "other.lab.test"]',
            id="a longer list",
        ),
        pytest.param(
            "PodMonitoring backstage/backstage",
            "/spec/endpoints/0/port",
            "9464",
            'spec.endpoints[0].port: expected "metrics", seen "9464"',
            id="another scrape port",
        ),
        pytest.param(
            "PodMonitoring backstage/backstage",
            "/spec/targetLabels/metadata",
            ["container", "node"],
            'spec.targetLabels.metadata[0]: expected "pod", seen nothing',
            id="an element of a set",
        ),
        pytest.param(
            "ServiceAccount backstage/backstage",
            "/metadata/annotations/iam.gke.io~1gcp-service-account",
            "intruder@backstage-lab.iam.gserviceaccount.com",
            "metadata.annotations[iam.gke.io/gcp-service-account]: "
            'expected "backstage@backstage-lab.iam.gserviceaccount.com", '
            'seen "intruder@backstage-lab.iam.gserviceaccount.com"',
            id="another identity",
        ),
        pytest.param(
            "ServiceAccount backstage/backstage",
            "/automountServiceAccountToken",
            0,
            "automountServiceAccountToken: expected false, seen 0",
            id="a number for a boolean",
        ),
    ],
)
def test_drift_names_the_field_that_was_changed(object_: str, pointer: str, value: object, difference: str) -> None:
    """One changed field is one difference, with its path, what was expected and what was seen."""
    assert found_after(object_, pointer, value) == [f"{object_} {difference}"]


@pytest.mark.parametrize(
    ("object_", "pointer", "value"),
    [
        pytest.param(DEPLOYMENT, f"{PORTAL}/resources/limits/cpu", "1000m", id="the same quantity in other words"),
        pytest.param(DEPLOYMENT, "/spec/replicas", 5, id="replicas, which the HPA owns"),
        pytest.param(DEPLOYMENT, "/status/replicas", 0, id="status"),
        pytest.param(DEPLOYMENT, f"{PORTAL}/env/-", {"name": "EXTRA", "value": "1"}, id="a variable more"),
        pytest.param(DEPLOYMENT, f"{POD}/containers/-", {"name": "injected", "image": "x"}, id="a container more"),
        pytest.param(DEPLOYMENT, f"{POD}/priorityClassName", "high", id="a field more"),
        pytest.param(
            "PodMonitoring backstage/backstage", "/spec/targetLabels/metadata", ["node", "container", "pod"], id="a set"
        ),
    ],
)
def test_drift_leaves_aside_what_is_not_the_references(object_: str, pointer: str, value: object) -> None:
    """The live objects must contain the reference; they may have more."""
    assert found_after(object_, pointer, value) == []


def test_order_is_no_drift_where_kubernetes_merges_by_name() -> None:
    """The order of a list that the API server merges by key does not matter."""
    live = recorded_live()
    variables = Manifest(live[DEPLOYMENT])["spec"]["template"]["spec"]
    env = next(iter(variables["containers"]))["env"]

    assert found_after(DEPLOYMENT, f"{PORTAL}/env", [each.value for each in env][::-1]) == []


def test_replicas_are_compared_where_no_hpa_owns_them() -> None:
    """`spec.replicas` is compared only if no HPA scales this Deployment."""
    reference, hpa = with_patch(recorded_reference(), "Deployment", "/spec/replicas", 3), "HorizontalPodAutoscaler"
    elsewhere = with_patch(reference, hpa, "/spec/scaleTargetRef/name", "other")
    drifted = f"{DEPLOYMENT} spec.replicas: expected 3, seen 2"

    assert found(reference, recorded_live()) == []
    assert found(with_patch(reference, hpa, "", ABSENT), recorded_live()) == [drifted]
    assert drifted in found(elsewhere, recorded_live())


@pytest.mark.parametrize(
    ("kind", "pointer", "value"),
    [
        pytest.param(
            "Deployment", f"{PORTAL}/env/-", {"name": "APP_BASE_URL", "value": ""}, id="not by name when twice"
        ),
        pytest.param("Deployment", "/metadata/labels/canary", "", id="a label without a value"),
        pytest.param("PodMonitoring", "/spec/targetLabels/fromPod", {}, id="an empty mapping of a custom resource"),
        pytest.param("Deployment", f"{PORTAL}/livenessProbe/terminationGracePeriodSeconds", 0, id="a zero that counts"),
    ],
)
def test_empty_values_are_drift_where_absent_means_something_else(kind: str, pointer: str, value: object) -> None:
    """An empty value counts unless the API server is known to drop that field."""
    assert len(found_for(kind, pointer, value)) == 1


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        (f"{POD}/hostNetwork", False),
        (f"{PORTAL}/volumeMounts/0/subPath", ""),
        (f"{POD}/imagePullSecrets", []),
        (f"{POD}/nodeSelector", {}),
        (f"{POD}/schedulerName", None),
        ("/metadata/creationTimestamp", None),
    ],
)
def test_empty_values_are_no_drift_where_the_server_leaves_them_out(pointer: str, value: object) -> None:
    """An empty value does not count if the API server drops that field."""
    assert found_for("Deployment", pointer, value) == []


def test_ports_without_names_are_merged_by_number_and_protocol() -> None:
    """Ports without a name are matched by number and protocol, with TCP as the default."""
    reference = with_patch(recorded_reference(), "Service", "/spec/ports/0/name", ABSENT)

    assert found(reference, recorded_live()) == []


def test_requests_that_autopilot_says_it_wrote_are_no_drift() -> None:
    """Requests that Autopilot raised are accepted only if its annotation announces them."""
    adjustment = {
        "input": {"containers": [{"name": "backstage", "requests": {"cpu": "200m"}}]},
        "output": {"containers": [{"name": "backstage", "requests": {"cpu": "0.25"}}]},
        "modified": True,
    }
    live = recorded_live()
    raised = patched(live[DEPLOYMENT], f"{PORTAL}/resources/requests/cpu", "250m")
    announced = patched(raised, "/metadata/annotations", {drift.AUTOPILOT_ADJUSTMENT: json.dumps(adjustment)})
    garbled = patched(raised, "/metadata/annotations", {drift.AUTOPILOT_ADJUSTMENT: "{"})

    assert found(recorded_reference(), {**live, DEPLOYMENT: announced}) == []
    assert len(found(recorded_reference(), {**live, DEPLOYMENT: raised})) == 1
    assert len(found(recorded_reference(), {**live, DEPLOYMENT: garbled})) == 1


def test_secrets_are_not_compared() -> None:
    """Secrets are skipped: an observer may not read them, and no message may show their contents."""
    reference = with_object(
        recorded_reference(),
        '{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"token": "hidden"}}',
    )

    assert found(reference, recorded_live()) == []


def test_summary_says_what_differs_and_where_to_look() -> None:
    """The failure of promise drift lists each difference and where to look next."""
    live = recorded_live()
    budget = "PodDisruptionBudget backstage/backstage"
    differences = drift.differences(
        recorded_reference(),
        lambda body: {**live, budget: patched(live[budget], "/spec/minAvailable", 2)}.get(str(Manifest(body))),
    )

    assert drift.summary(recorded_reference(), differences) == (
        "expected: the live objects to contain the reference manifests/overlays/local\n"
        "seen: 1 different\n"
        "  PodDisruptionBudget backstage/backstage spec.minAvailable: expected 1, seen 2\n"
        "look next: kubectl get -o yaml --show-managed-fields of the object tells who wrote the field, and when"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("1", "1000m"), (1, "1"), ("0.1", "100m"), ("1Gi", "1024Mi"), ("1G", "1000M"), ("1e3", "1k")],
        pytest.param(0.1, "100m", id="a number"),
    ],
)
def test_quantities_are_equal_by_amount(one: object, other: object) -> None:
    """Quantities are equal if they mean the same amount, as in Kubernetes."""
    assert quantity(one) == quantity(other) is not None


@pytest.mark.parametrize("value", ["", "lots", "5x", None, True, [1]])
def test_what_is_no_quantity_has_no_amount(value: object) -> None:
    """A value that is no quantity is compared as it stands."""
    assert quantity(value) is None
