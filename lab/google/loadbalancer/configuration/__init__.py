"""Gateways, routes and policies as GKE reads them, and what their status says of it. Pure: no Envoy, no API server."""
