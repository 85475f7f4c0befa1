"""GKE's Gateway controller and Google's load balancer, in front of a real Envoy configured by files.

From the API server to Envoy:

    mirror -> gateways, routes, policies -> programme -> neg -> envoy         what is served
                                                      -> status, readiness    what is said about it
    webhook: adds the readiness gate to new pods

`controller` calls these in that order. It keeps three things: the API objects (mirrored), the last good
programme of each Gateway and the endpoint groups (both in files, so a restart changes nothing for users).
"""
