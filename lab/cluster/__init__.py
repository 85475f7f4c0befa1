"""The Kubernetes cluster: control plane, nodes, add-ons. Google's side is not in here."""
