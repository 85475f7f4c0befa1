"""Secret Manager, and GKE's side of the CSI driver that mounts its secrets."""
