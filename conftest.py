"""Plugins. Options and hooks are in `fixtures/plugin.py`."""

pytest_plugins = ["fixtures.plugin"]
