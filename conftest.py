"""The plugins of this project, and why in this order.

It is the way of a run: chosen, opened, held, applied, disturbed, judged, told. pytest calls the hooks of a later plugin
before those of an earlier one; where that matters a hook says so itself (`tryfirst`, `trylast`, `wrapper`), so that
nothing depends on this list but the order of the options in `pytest --help`, whose group `options` opens.
"""

pytest_plugins = [
    "fixtures.plugins.options",
    "fixtures.plugins.run",
    "fixtures.plugins.leasing",
    "fixtures.plugins.prove_guard",
    "fixtures.plugins.applied_reference",
    "fixtures.plugins.disturbing",
    "fixtures.plugins.judging",
    "fixtures.plugins.unchanged",
    "fixtures.plugins.html_report",
    "fixtures.plugins.in_service",
]
