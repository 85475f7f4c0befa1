"""Plugins of the project; tests find here what they may hold in their hands."""

pytest_plugins = [
    "fixtures.plugin",
    "fixtures.run",
    "fixtures.leasing",
    "fixtures.judging",
    "fixtures.report",
    "fixtures.in_service",
]
