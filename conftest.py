"""Plugins of the project; tests find here what they may hold in their hands."""

pytest_plugins = [
    "fixtures.plugins.options",
    "fixtures.plugins.run",
    "fixtures.plugins.leasing",
    "fixtures.plugins.prove_guard",
    "fixtures.plugins.judging",
    "fixtures.plugins.unchanged",
    "fixtures.plugins.html_report",
    "fixtures.plugins.in_service",
]
