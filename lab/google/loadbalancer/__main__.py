"""`python -m lab.google.loadbalancer`: runs in the gateway's network namespace, beside Envoy."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

from lab import layout
from lab.google.loadbalancer import webhook
from lab.google.loadbalancer.controller import Controller
from lab.google.loadbalancer.mirror import Mirror
from lab.kubernetes_api import Api


def main() -> None:
    """Start the mirror, the webhook and the loop. Ends by any signal: all it must remember is already in files."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    directory = layout.GOOGLE_DIR / "loadbalancer"
    directory.mkdir(parents=True, exist_ok=True)
    kubeconfig = Path(os.environ["KUBECONFIG"])
    while not kubeconfig.exists():
        time.sleep(1)
    api = Api.from_kubeconfig(kubeconfig)
    mirror = Mirror(api)
    controller = Controller(api, mirror, directory)
    mirror.start()
    threading.Thread(target=webhook.serve, args=(directory, controller.wants_gate), daemon=True).start()
    controller.run()


main()
