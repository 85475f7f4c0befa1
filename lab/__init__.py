"""A real Kubernetes with Google's surroundings, on one Linux machine.

`docs/lab.md` says which room holds what; `parts` lists everything that is started.
"""
