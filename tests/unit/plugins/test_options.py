"""Command-line options: when the chosen environment is read, printed, and made ready."""

from __future__ import annotations

import pytest

from fixtures.environment.sources import KEYS
from tests.unit.environment.conftest import RECORDED, written

pytest_plugins = ["pytester"]


PLUGINS = ("-p", "fixtures.plugins.options", "-p", "fixtures.plugins.run")


class TestCommandLine:
    """Runs of pytest with the plugins `options` and `run`."""

    def test_show_environment_prints_it_and_tests_nothing(self, pytester: pytest.Pytester) -> None:
        """`--show-environment` runs only the command that prints facts, which changes nothing, and no test."""
        pytester.makepyfile("def test_nothing(): raise AssertionError")
        ready = f'target.ready = [["false"], ["cat", "{RECORDED}"]]'
        path = written(pytester.path, f'extends = "local"\n{ready}')

        result = pytester.runpytest_inprocess(*PLUGINS, f"--env={path}", "--show-environment")

        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["portal.hostname *backstage.lab.test* ready command (hostname)"])
        assert len(result.outlines) == len(KEYS)

    def test_show_environment_of_a_target_that_says_nothing_is_a_usage_error(self, pytester: pytest.Pytester) -> None:
        """A failing command is a usage error with one message."""
        path = written(pytester.path, 'extends = "local"\ntarget.ready = [["false"]]')

        result = pytester.runpytest_inprocess(*PLUGINS, f"--env={path}", "--show-environment")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: expected: the target made ready; seen: exit code 1: *"])

    def test_test_that_needs_no_target_reads_no_environment(self, pytester: pytest.Pytester) -> None:
        """Unit tests run even if `--env` names no environment, as none is read."""
        pytester.makepyfile("def test_nothing(): pass")

        result = pytester.runpytest_inprocess(*PLUGINS, "--env=none")

        result.assert_outcomes(passed=1)

    def test_mistake_in_an_environment_is_told_before_the_first_test(self, pytester: pytest.Pytester) -> None:
        """An invalid environment is a usage error before the first test, not a failing test."""
        pytester.makepyfile("def test_first(): pass\ndef test_second(timeouts): pass")

        result = pytester.runpytest_inprocess(*PLUGINS, "--env=prod")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: environments/prod.toml: cluster.context: expected: *; seen: SET-ME"])
        assert "passed" not in result.stdout.str()

    def test_tests_hold_the_environment_with_its_target_made_ready(self, pytester: pytest.Pytester) -> None:
        """All ready commands run once, before the tests; a second `mkdir` would fail."""
        pytester.makepyfile(
            "def test_name(environment, timeouts): assert environment.name == 'mine'\n"
            "def test_deadline(timeouts): assert timeouts.rollout == 600"
        )
        mark = pytester.path / "ready"
        ready = f'target.ready = [["mkdir", "{mark}"], ["cat", "{RECORDED}"]]'
        path = written(pytester.path, f'extends = "local"\n{ready}')

        result = pytester.runpytest_inprocess(*PLUGINS, f"--env={path}", "--color=yes")

        result.assert_outcomes(passed=2)
        assert mark.is_dir()
