"""The Linux machine under the lab: packages, control groups, network namespaces, processes.

Nothing here knows of Kubernetes.
"""
