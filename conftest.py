"""The plugins of this project, in the order in which a run meets them.

A run chooses its target, opens it, takes its Lease, applies the reference, disturbs, judges and reports. A hook that
must run before or after those of other plugins says so itself (`tryfirst`, `trylast`, `wrapper`), and no plugin imports
another: a plugin that is imported before pytest loads it ends the run with a PytestAssertRewriteWarning. So the order
shows in two places only: the options in `pytest --help`, where `options` comes first as it gives their group its title;
and which of two options that replace a run wins (`--show-environment`, `--restore`, `--prove-guard`): the last.
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
    "fixtures.plugins.reporting",
    "fixtures.plugins.in_service",
]
