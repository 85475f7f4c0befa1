"""A real Kubernetes with Google's surroundings, on one Linux machine."""
