"""A cluster with what a drain needs, on the loopback: nodes, pods with their controllers, budgets, Leases.

It is close to the API server where that matters: compare-and-swap, watches, the decision on an eviction. `script`
makes it misbehave.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

from tests.unit.apiserver import Answer, Json, Request, as_json

PODS = "/api/v1/namespaces/portal/pods"
BUDGETS = "/apis/policy/v1/namespaces/portal/poddisruptionbudgets"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/portal/leases"
BACKSTAGE = {"app": "backstage"}


def status(code: int, reason: str, message: str = "", causes: tuple[Json, ...] = ()) -> Answer:
    """A refusal with a Kubernetes Status as its body."""
    body = {"kind": "Status", "reason": reason, "message": message, "code": code, "details": {"causes": list(causes)}}
    return as_json(body, code)


def refused_by_budget() -> Answer:
    """The refusal of an eviction as Kubernetes 1.36 words it."""
    cause = {
        "reason": "DisruptionBudget",
        "message": "The disruption budget backstage needs 1 healthy pods and has 1 currently",
    }
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return status(429, "TooManyRequests", message, (cause,))


class FakeCluster:
    """Objects by collection, and the rules by which requests and controllers change them."""

    def __init__(self, *, ends_after: float = 0.02, ready_after: float = 0.04) -> None:
        self.lock = threading.Condition()
        self.version = 1
        self.pods_created = 0
        self.ends_after, self.ready_after = ends_after, ready_after
        self.collections: dict[str, dict[str, Json]] = {"/api/v1/nodes": {}, PODS: {}, BUDGETS: {}, LEASES: {}}
        self.events: list[tuple[int, str, str, Json]] = []
        self.requests: list[Request] = []
        self.script: Callable[[Request], Answer | None] = lambda _: None
        self.watches_are_silent = False
        """Whether watches stay open without delivering any event."""
        self.put("/api/v1/namespaces", {"metadata": {"name": "portal"}})
        for name in ("node-1", "node-2", "node-3"):
            self.put("/api/v1/nodes", {"metadata": {"name": name}, "spec": {}})
        self.put(BUDGETS, {"metadata": {"name": "backstage", "namespace": "portal", "generation": 1},
                           "spec": {"minAvailable": 1, "selector": {"matchLabels": BACKSTAGE}}})  # fmt: skip
        self.pod("backstage-a", "node-1", BACKSTAGE)
        self.pod("backstage-b", "node-2", BACKSTAGE)

    def pod(
        self, name: str, node: str, labels: Json, *, ready: bool = True, owner: str = "ReplicaSet", **metadata: object
    ) -> Json:  # fmt: skip
        """Add a running pod."""
        self.pods_created += 1
        owners = [{"kind": owner, "controller": True, "uid": "rs"}] if owner else []
        body = {
            "metadata": {"name": name, "namespace": "portal", "uid": f"uid-{self.pods_created}", "labels": labels,
                         "ownerReferences": owners, **metadata},
            "spec": {"nodeName": node},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
        }  # fmt: skip
        return self.put(PODS, body)

    def put(self, collection: str, body: Json, kind: str = "") -> Json:
        """Store an object, notify the watches and recompute the budgets."""
        with self.lock:
            self.version += 1
            name = body["metadata"]["name"]
            known = self.collections.setdefault(collection, {})
            body = {**body, "metadata": {"uid": name, **body["metadata"], "resourceVersion": str(self.version)}}
            self._notify(kind or ("MODIFIED" if name in known else "ADDED"), collection, body)
            known[name] = body
            if collection == PODS:
                self._compute_budgets()
            return body

    def remove(self, collection: str, name: str) -> None:
        """Delete an object and notify the watches; an absent one is ignored."""
        with self.lock:
            body = self.collections[collection].pop(name, None)
            if body:
                self.version += 1
                metadata = {**body["metadata"], "resourceVersion": str(self.version)}
                self._notify("DELETED", collection, {**body, "metadata": metadata})
                if collection == PODS:
                    self._compute_budgets()

    def _notify(self, kind: str, collection: str, body: Json) -> None:
        self.events.append((self.version, kind, collection, body))
        self.lock.notify_all()

    def _compute_budgets(self) -> None:
        for budget in list(self.collections[BUDGETS].values()):
            covered = [
                pod for pod in self.collections[PODS].values()
                if budget["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
                and "deletionTimestamp" not in pod["metadata"]
            ]  # fmt: skip
            healthy = sum(pod["status"]["conditions"][0]["status"] == "True" for pod in covered)
            desired = budget["spec"]["minAvailable"]
            computed = {"observedGeneration": 1, "currentHealthy": healthy, "desiredHealthy": desired,
                        "expectedPods": 2, "disruptionsAllowed": max(0, healthy - desired)}  # fmt: skip
            if budget.get("status") != computed:
                self.put(BUDGETS, {**budget, "status": computed})

    def node(self, name: str) -> Json:
        """The node of this name."""
        return self.collections["/api/v1/nodes"][name]

    def answer(self, request: Request) -> Answer:
        """The response to a request: the script's if it gives one, otherwise by the rules."""
        self.requests.append(request)
        if scripted := self.script(request):
            return scripted
        with self.lock:
            path = urlsplit(request.path).path
            by_method: Callable[[str, Request], Answer] = getattr(self, f"_{request.method.lower()}")
            return by_method(path, request)

    def _get(self, path: str, request: Request) -> Answer:
        if path == "/api/v1/pods" or path in self.collections:
            known = self.collections[PODS if path.endswith("/pods") else path].values()
            items = [each for each in known if matches(request, each)]
            return as_json({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        collection, _, name = path.rpartition("/")
        found = self.collections.get(collection, {}).get(name)
        return as_json(found) if found else status(404, "NotFound", f"{name} not found")

    def _post(self, path: str, request: Request) -> Answer:
        if path.endswith("/eviction"):
            return self._evict(path.split("/")[-2], request)
        if request.body["metadata"]["name"] in self.collections[path]:
            return status(409, "AlreadyExists")
        return as_json(self.put(path, request.body), 201)

    def _put(self, path: str, request: Request) -> Answer:
        collection, _, name = path.rpartition("/")
        live = self.collections[collection].get(name)
        if not live:
            return status(404, "NotFound")
        if stale(request.body, live):
            return status(409, "Conflict", "the object has been modified")
        return as_json(self.put(collection, request.body))

    def _patch(self, path: str, request: Request) -> Answer:
        collection, _, name = path.rpartition("/")
        live = self.collections[collection].get(name)
        if not live:
            return status(404, "NotFound")
        if stale(request.body, live):
            return status(409, "Conflict", "the object has been modified")
        return as_json(self.put(collection, merged(live, request.body)))

    def _delete(self, path: str, request: Request) -> Answer:
        collection, _, name = path.rpartition("/")
        live = self.collections[collection].get(name)
        if not live:
            return status(404, "NotFound")
        # The suite deletes only what it has read: a delete without a precondition is an error in it.
        if request.body["preconditions"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
            return status(409, "Conflict", "the ResourceVersion in the precondition does not match")
        self.remove(collection, name)
        return as_json({"status": "Success"})

    def _evict(self, name: str, request: Request) -> Answer:
        pod = self.collections[PODS].get(name)
        if not pod:
            return status(404, "NotFound")
        if request.body["deleteOptions"]["preconditions"]["uid"] != pod["metadata"]["uid"]:
            return status(409, "Conflict", "the UID in the precondition does not match")
        if "deletionTimestamp" in pod["metadata"]:
            return as_json({"status": "Success"}, 201)
        labels = pod["metadata"]["labels"].items()
        covering = [
            each
            for each in self.collections[BUDGETS].values()
            if each["spec"]["selector"]["matchLabels"].items() <= labels
        ]
        if any(each["status"]["disruptionsAllowed"] == 0 for each in covering):
            return refused_by_budget()
        if "dryRun" not in request.path:
            self._terminate(pod)
        return as_json({"status": "Success"}, 201)

    def _terminate(self, pod: Json) -> None:
        """Mark the pod as terminating; later remove it and make its replacement Ready."""
        metadata = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        self.put(PODS, {**pod, "metadata": metadata})
        # A drained node is cordoned, so the replacement has to go elsewhere.
        free = [
            name for name, node in self.collections["/api/v1/nodes"].items() if not node["spec"].get("unschedulable")
        ]
        fresh = self.pod(f"{pod['metadata']['name']}-x", free[-1], pod["metadata"]["labels"], ready=False)
        ready = {**fresh, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        run_later(self.ends_after, lambda: self.remove(PODS, pod["metadata"]["name"]))
        run_later(self.ready_after, lambda: self.put(PODS, ready))

    def watch(self, request: Request) -> Iterator[Json]:
        """Events after the request's resourceVersion, until its timeoutSeconds are over."""
        query, path = parse_qs(urlsplit(request.path).query), urlsplit(request.path).path
        seen, end = int(query["resourceVersion"][0]), time.monotonic() + float(query["timeoutSeconds"][0])
        collection = PODS if path.endswith("/pods") else path
        while (left := end - time.monotonic()) > 0:
            with self.lock:
                fresh = [each for each in self.events if each[0] > seen and not self.watches_are_silent]
                if not fresh:
                    self.lock.wait(min(left, 0.1))
                seen = max([seen, *(each[0] for each in fresh)])
            for _, kind, where, body in fresh:
                if where == collection and matches(request, body):
                    yield {"type": kind, "object": body}

    def changes(self) -> list[tuple[str, str]]:
        """Method and path of each request that is not a GET."""
        return [(each.method, urlsplit(each.path).path) for each in self.requests if each.method != "GET"]


def matches(request: Request, body: Json) -> bool:
    """Whether the object matches the request's field selector, which is always one on `spec.nodeName`."""
    wanted = parse_qs(urlsplit(request.path).query).get("fieldSelector", ["="])[0].partition("=")[2]
    return not wanted or body["spec"]["nodeName"] == wanted


def stale(body: Json, live: Json) -> bool:
    """Whether the object was changed since it was read."""
    version: str = live["metadata"]["resourceVersion"]
    return bool(body["metadata"].get("resourceVersion", version) != version)


def merged(body: Json, patch: Json) -> Json:
    """The object after a JSON merge patch (RFC 7396)."""
    result = dict(body)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


def run_later(seconds: float, act: Callable[[], object]) -> None:
    """Call a function in a thread after a delay in seconds."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
