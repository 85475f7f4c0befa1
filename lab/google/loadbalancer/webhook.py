"""The admission webhook that gives new pods of a load-balanced Service the readiness gate."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from typing import TYPE_CHECKING

from aiohttp import web

from lab import layout
from lab.google.loadbalancer.dataplane.neg import READINESS_GATE
from lab.google.loadbalancer.readiness import has_gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.google.loadbalancer.objects import Object

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
ADDRESS = layout.GATEWAY_ADDRESSES[0]


def review(request: Object, wants_gate: Callable[[str, Object], bool]) -> Object:
    """The answer to an AdmissionReview of a pod's creation: always allowed, perhaps with the gate added."""
    pod, response = request["object"], {"uid": request["uid"], "allowed": True}
    if not has_gate(pod) and wants_gate(request["namespace"], pod):
        gates = [*pod["spec"].get("readinessGates", []), {"conditionType": READINESS_GATE}]
        patch = [{"op": "add", "path": "/spec/readinessGates", "value": gates}]
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}


def serve(directory: Path, wants_gate: Callable[[str, Object], bool], address: str = ADDRESS) -> None:
    """Serve for ever with the certificate of the directory; waits until there is one."""
    asyncio.run(_serve(directory, wants_gate, address))


async def _serve(directory: Path, wants_gate: Callable[[str, Object], bool], address: str) -> None:
    async def mutate(request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response(review(body["request"], wants_gate))

    app = web.Application()
    app.router.add_post("/pods", mutate)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    complaint = ""
    while True:
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(directory / "webhook.crt", directory / "webhook.key")
            await web.TCPSite(runner, address, layout.WEBHOOK_PORT, ssl_context=context, reuse_address=True).start()
            break
        except OSError as error:
            if str(error) != complaint:
                log.info("webhook cannot start, trying on: %s", error)
                complaint = str(error)
            await asyncio.sleep(RETRY_SECONDS)
    await asyncio.Event().wait()
