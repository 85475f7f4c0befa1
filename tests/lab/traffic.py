"""Web servers behind the Gateway, and steady traffic to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from fixtures.waiting import wait_for
from tests.lab.conftest import Kubectl, Manifest
from tests.lab.gateway_api import Answer, ask

PER_SECOND = 20
"""Requests per second that `Traffic` sends."""
POD_READY = 120
"""Seconds for a pod to start and to be attached to the load balancer, on a machine that starts many at once."""
LOOK_NEXT = "python -m lab logs load-balancer"


class Site:
    """Pods of the lab's web server behind the Gateway, under a hostname of their own."""

    def __init__(self, kubectl: Kubectl, namespace: str, name: str, address: str) -> None:
        self._kubectl, self._namespace, self._name, self._address = kubectl, namespace, name, address

    def pods(self) -> dict[str, Manifest]:
        """Its pods by name."""
        found = self._kubectl.get("--namespace", self._namespace, "pods", f"--selector=app={self._name}")
        return {pod["metadata"]["name"]: pod for pod in found["items"]}

    def ask(self) -> Answer:
        """Send a request through the Gateway; the body of the answer is the name of the pod that served it."""
        return ask(f"{self._name}.{self._namespace}.test", "/cgi-bin/name", address=self._address)

    def served_by(self) -> set[str]:
        """Names of the pods that answer ten requests, enough to reach each of a few; for a failure, its text."""
        return {self.ask().body for _ in range(10)}

    def wait_until_served_by(self, *pods: str) -> None:
        """Wait until exactly these pods answer."""
        wait_for(
            f"{self._name} to be served by {', '.join(pods)}",
            self.served_by,
            until=lambda seen: seen == set(pods),
            within=POD_READY,
            look_next=LOOK_NEXT,
        )

    def move(self, pod: str, page: str, name: str) -> None:
        """Rename a page of one of the pods; requests for the old name get 404 from then on."""
        self._kubectl("exec", "--namespace", self._namespace, pod, "--", "mv", f"/www/{page}", f"/www/{name}")


class Traffic:
    """Sends requests at a fixed rate while the `with` block lasts, without waiting for earlier answers."""

    def __init__(self, send: Callable[[], Answer]) -> None:
        self._send = send
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[Answer] = []
        """Answers in the order in which they arrived."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        # A request to a pod that is gone may hang for seconds; the next ones must not wait for it.
        with ThreadPoolExecutor(max_workers=10 * PER_SECOND) as pool:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                pool.submit(lambda: self.answers.append(self._send()))
                due += 1 / PER_SECOND


def unserved(answers: list[Answer]) -> list[Answer]:
    """The answers with another status than 200."""
    return [answer for answer in answers if answer.status != 200]
