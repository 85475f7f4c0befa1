"""Environments: what a file may say, what its command adds, what is refused and in which words."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from fixtures.environment import file as environment_file
from fixtures.environment.file import EnvironmentFileError, read
from fixtures.environment.model import Environment
from fixtures.environment.settings import KEYS, Setting, problems, shown
from fixtures.environment.tables import TargetTable
from fixtures.environment.target import TargetNotReadyError, facts, make_ready

pytest_plugins = ["pytester"]

RECORDED = "tests/unit/recorded/environment/lab-facts.json"
"""What `python -m lab facts` printed, with other paths."""

COMPLETE = """
permissions = ["observe"]
required = ["workload"]
reference.source = "manifests"
namespaces = {deployment = "backstage", route = "backstage", gateway = "mcp"}
gateway.name = "external-gw-01"
portal = {hostname = "backstage.test", tls_minimum = "TLSv1.2", certificate_days_left = 14, auth = "none"}
google = {project = "p", location = "l", cluster = "c"}
identity.service_account = "backstage@p.iam.gserviceaccount.com"
cloud_sql = {instance = "p:l:i", iam_user = "backstage@p.iam", databases = ["d"], availability = "ZONAL"}
secrets.expected = ["token"]
metrics = {expected = ["m"], database_operations = "o"}
slo = {error_ratio = 0.01, latency = 1, longest_outage = 0}
"""


def written(directory: Path, text: str, name: str = "mine.toml") -> str:
    """Path of a file with that text."""
    path = directory / name
    path.write_text(text)
    return str(path)


def refusal(directory: Path, text: str) -> list[str]:
    """The sentences with which a file is refused, without the directory and the last line, which is always the same."""
    with pytest.raises(EnvironmentFileError) as refused:
        read(written(directory, text))
    *sentences, last = str(refused.value).replace(f"{directory}/", "").splitlines()
    assert last == "look next: docs/environments.md"
    return sentences


def test_complete_file_is_an_environment(tmp_path: Path) -> None:
    """A file with every required key needs nothing else."""
    loaded = read(written(tmp_path, COMPLETE)).completed({})

    assert loaded.environment.name == "mine"
    assert loaded.environment.slo.latency == 1.0
    assert loaded.environment.cloud_sql.databases == ("d",)
    assert loaded.environment.timeouts.rollout == 600.0


def test_environment_does_not_change_after_loading(tmp_path: Path) -> None:
    """No test can change what the next one sees."""
    environment = read(written(tmp_path, COMPLETE)).completed({}).environment

    with pytest.raises(ValueError, match="frozen"):
        environment.portal.hostname = "elsewhere.test"


def test_paths_start_at_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means the same wherever the run was started; `~` is the home directory."""
    monkeypatch.setenv("HOME", "/home/somebody")
    loaded = read(written(tmp_path, COMPLETE + 'cluster.kubeconfig = "~/.kube/staging"')).completed({})

    assert loaded.environment.reference.source == tmp_path / "manifests"
    assert loaded.environment.cluster.kubeconfig == Path("/home/somebody/.kube/staging")


def test_deadline_of_the_file_replaces_the_default(tmp_path: Path) -> None:
    """Only what differs has to be said."""
    draft = read(written(tmp_path, COMPLETE + "timeouts.rollout = 900"))

    assert (draft.timeouts.rollout, draft.timeouts.drain) == (900.0, 600.0)


def test_production_carries_the_values_of_the_seed_and_may_only_be_observed() -> None:
    """The file names the deployment, and what its owner must fill in, all at once."""
    values = tomllib.loads((environment_file.ENVIRONMENTS / "prod.toml").read_text())

    assert values["permissions"] == ["observe"]
    assert values["portal"]["hostname"] == "backstage.broadinstitute.org"
    assert values["cloud_sql"]["instance"] == "bits-backstage-prod:us-east4:backstage-prod"
    assert values["identity"]["service_account"] == "backstage@bits-backstage-prod.iam.gserviceaccount.com"
    assert (values["gateway"]["name"], values["namespaces"]["gateway"]) == ("external-gw-01", "mcp")
    assert len(values["secrets"]["expected"]) == 6
    with pytest.raises(EnvironmentFileError) as refused:
        read("prod")
    assert str(refused.value) == (
        "environments/prod.toml: cluster.context: expected: Context of the kubeconfig; seen: SET-ME\n"
        "environments/prod.toml: google.location: expected: Location of the cluster, as metrics name it; seen: SET-ME\n"
        "environments/prod.toml: google.cluster: expected: Name of the cluster, as metrics name it; seen: SET-ME\n"
        "look next: docs/environments.md"
    )


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_nothing_but_owners_values_is_missing(name: str, tmp_path: Path) -> None:
    """With every SET-ME replaced the file is an environment."""
    text = (environment_file.ENVIRONMENTS / f"{name}.toml").read_text()

    assert read(written(tmp_path, text.replace("SET-ME", "owners"))).completed({}).environment.name == "mine"


def test_sentinel_within_a_value_is_found_beside_other_problems(tmp_path: Path) -> None:
    """A value that is half filled in is not filled in, and its form is not judged as well."""
    text = COMPLETE.replace('"p:l:i"', '"p:SET-ME"').replace('["token"]', '["a", "SET-ME"]').replace('"c"', "5")

    assert refusal(tmp_path, text) == [
        "mine.toml: cloud_sql.instance: expected: Instance connection name, `project:region:instance`; seen: SET-ME",
        "mine.toml: secrets.expected: expected: Names of the secrets, not their values; seen: SET-ME",
        "mine.toml: google.cluster: expected: a valid string (Name of the cluster, as metrics name it); seen: 5",
    ]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Each sentence names file, key, what is expected there and what is."""
    text = (
        COMPLETE.replace('hostname = "backstage.test"', 'hostnme = "x"')
        .replace("latency = 1", 'latency = "1"')
        .replace("error_ratio = 0.01", "error_ratio = nan")
        .replace('["observe"]', '["connect", "destroy"]')
        .replace('identity.service_account = "backstage@p.iam.gserviceaccount.com"', "identity = 5")
    )

    keys = ", ".join(Environment.model_fields)
    assert refusal(tmp_path, f"{text}\n[empty]") == [
        f"mine.toml: {sentence}"
        for sentence in (
            (
                "permissions: expected: one of observe, connect, apply, load, disrupt (What may happen to the target); "
                'seen: "destroy"'
            ),
            "portal.hostname: expected: Host name of the portal, without scheme; seen: nothing",
            (
                "portal.hostnme: expected: one of hostname, resolver, pinned_address, expected_addresses, ca_file, "
                "tls_minimum, certificate_days_left, marker, catalog_page, auth, token_variable, iap_audience, "
                "control_url; seen: an unknown key"
            ),
            "identity: expected: a table; seen: 5",
            "slo.error_ratio: expected: a finite number (Share of requests that may fail); seen: NaN",
            ('slo.latency: expected: a valid number (Seconds within which 95 of 100 requests are answered); seen: "1"'),
            f"empty: expected: one of {keys}; seen: an unknown key",
        )
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            'permissions = ["connect"]',
            (
                "permissions: expected: `observe` among them, which every other needs (What may happen to the target); "
                'seen: ["connect"]'
            ),
        ),
        (
            'cluster = {in_cluster = true, context = "staging"}',
            (
                "cluster: expected: either `in_cluster` or `kubeconfig` and `context`; "
                'seen: in_cluster = true, context = "staging"'
            ),
        ),
        (
            'google = {project = "p", location = "l", cluster = "c", token_file = "/t", token_variable = "T"}',
            (
                "google: expected: either `token_file` or `token_variable`; "
                'seen: project = "p", location = "l", cluster = "c", token_file = "/t", token_variable = "T"'
            ),
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(line: str, sentence: str, tmp_path: Path) -> None:
    """What is said twice, or leaves out what it rests on, is told as a problem of the table."""
    key = line.partition(" ")[0]
    others = [other for other in COMPLETE.splitlines() if not other.startswith(f"{key} ")]

    assert refusal(tmp_path, "\n".join([*others, line])) == [f"mine.toml: {sentence}"]


@pytest.mark.parametrize(
    ("portal", "sentence"),
    [
        ('auth = "bearer"', '`token_variable`, as `auth` is "bearer"'),
        ('auth = "iap"', '`iap_audience`, as `auth` is "iap"'),
        (
            'auth = "none", resolver = "192.0.2.1", pinned_address = "192.0.2.2"',
            "either `resolver` or `pinned_address`",
        ),
    ],
)
def test_sign_in_is_told_completely(portal: str, sentence: str, tmp_path: Path) -> None:
    """A sign-in without what it needs is refused before anything is tested."""
    (told,) = refusal(tmp_path, COMPLETE.replace('auth = "none"', portal))

    assert told.startswith(f"mine.toml: portal: expected: {sentence}; seen: ")


def test_secret_that_strayed_into_a_file_is_not_repeated(tmp_path: Path) -> None:
    """A token in place of a variable's name, in an unknown key or in a URL stays out of the message."""
    secrets = 'auth = "none", token_variable = "hunter2", token = "hunter2", control_url = "https://me:hunter2@x.test"'

    told = refusal(tmp_path, COMPLETE.replace('auth = "none"', secrets))

    assert [sentence.rpartition("; seen: ")[2] for sentence in told] == [
        "a text that is not shown",
        '"https://...@x.test"',
        "an unknown key",
    ]
    assert "hunter2" not in "".join(told)


def test_unknown_environment_is_told_with_the_known_ones() -> None:
    """A typing mistake in the name shows what there is."""
    with pytest.raises(EnvironmentFileError) as refused:
        read("prd")

    names = ", ".join(sorted(path.stem for path in environment_file.ENVIRONMENTS.glob("*.toml")))
    assert {"local", "prod", "staging"} <= set(environment_file.environment_names())
    assert str(refused.value) == f"expected: an environment of {names}, or a path; seen: prd"


def test_path_without_a_file_is_refused(tmp_path: Path) -> None:
    """A path is never taken for a name."""
    with pytest.raises(EnvironmentFileError) as refused:
        read(f"{tmp_path}/none.toml")

    assert str(refused.value) == f"expected: the file of an environment; seen: no file {tmp_path}/none.toml"


def test_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    """The place of the mistake is told."""
    with pytest.raises(EnvironmentFileError) as refused:
        read(written(tmp_path, "permissions = observe"))

    assert str(refused.value) == (
        f"{tmp_path}/mine.toml: expected: a readable TOML file; seen: Invalid value (at line 1, column 15)"
    )


def test_image_of_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    """The pipeline names the candidate, whatever file or command say."""
    path = written(tmp_path, COMPLETE + 'reference.image = "backstage:SET-ME"')

    loaded = read(path, image="backstage:2").completed({"reference.image": Setting("backstage:3", "ready command")})

    assert loaded.environment.reference.image == "backstage:2"
    assert loaded.settings["reference.image"].source == "option --image"


def test_file_takes_from_another_what_it_does_not_say(tmp_path: Path) -> None:
    """The same target with other permissions needs only the lines that differ, and its own kubeconfig holds."""
    ready = '[target]\nready = [["facts"]]\n[target.facts]\n"cluster.kubeconfig" = "admin"\n"google.cluster" = "name"\n'
    written(tmp_path, COMPLETE.replace('["observe"]', '["observe", "connect"]') + ready, "whole.toml")
    smoke = 'extends = "./whole.toml"\npermissions = ["observe"]\ncluster.kubeconfig = "observer"\n'

    draft = read(written(tmp_path, smoke, "smoke.toml"))

    assert (draft.name, draft.permissions) == ("smoke", frozenset({"observe"}))
    assert draft.target.facts == {"google.cluster": "name"}
    assert draft.settings["cluster.kubeconfig"] == Setting(f"{tmp_path}/observer", f"{tmp_path}/smoke.toml")
    assert draft.settings["required"].source == f"{tmp_path}/whole.toml"


def test_pod_asks_as_itself_whatever_kubeconfig_the_extended_file_names(tmp_path: Path) -> None:
    """The same target from within: one line instead of a copy of the file."""
    written(tmp_path, COMPLETE + 'cluster.kubeconfig = "mine"\ncluster.context = "prod"\n', "outside.toml")
    inside = 'extends = "./outside.toml"\ncluster.in_cluster = true\n'

    cluster = read(written(tmp_path, inside, "inside.toml")).completed({}).environment.cluster

    assert (cluster.in_cluster, cluster.kubeconfig, cluster.context) == (True, None, None)


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    """A circle is told as such."""
    written(tmp_path, 'extends = "./b.toml"', "a.toml")
    with pytest.raises(EnvironmentFileError) as refused:
        read(written(tmp_path, 'extends = "./a.toml"', "b.toml"))

    assert str(refused.value).replace(f"{tmp_path}/", "") == (
        "expected: files that extend others, in no circle; seen: b.toml extends a.toml extends b.toml"
    )


def test_lab_facts_complete_the_local_environment(tmp_path: Path) -> None:
    """Every fact that the local environment asks for is one that the lab prints."""
    draft = read(written(tmp_path, f'extends = "local"\ntarget.ready = [["true"], ["cat", "{RECORDED}"]]'))

    loaded = draft.completed(make_ready(draft.target, within=10))

    assert loaded.environment.cluster.kubeconfig == (environment_file.ROOT / ".lab/rbac/disrupter").resolve()
    assert str(loaded.environment.portal.pinned_address) == "172.30.0.80"
    assert len(loaded.environment.secrets.expected) == 6
    assert loaded.settings["google.sql_admin"].source == "ready command (cloud_sql.admin_api)"


def test_fact_of_another_form_is_refused_with_its_name(tmp_path: Path) -> None:
    """A command that says nonsense is told apart from a file that does."""
    draft = read(written(tmp_path, COMPLETE))

    with pytest.raises(EnvironmentFileError) as refused:
        draft.completed({"gateway.name": Setting(5, "ready command (gateway)")})

    assert str(refused.value).splitlines()[0] == (
        "ready command (gateway): gateway.name: expected: a valid string (Name of the Gateway); seen: 5"
    )


def test_command_may_not_say_what_may_happen_to_the_target(tmp_path: Path) -> None:
    """Permissions stand in the file; a mistyped key is found before the command runs."""
    mapping = '[target]\nready = [["facts"]]\n[target.facts]\npermissions = "p"\n"gateway.nme" = "g"'

    assert refusal(tmp_path, COMPLETE + mapping) == [
        f"mine.toml: target.facts: expected: keys that a command may say, such as namespaces.gateway; seen: {key}"
        for key in ("gateway.nme", "permissions")
    ]


def test_fact_without_a_command_is_not_awaited(tmp_path: Path) -> None:
    """Without a command nobody will say what the file leaves out."""
    text = COMPLETE.replace('gateway.name = "external-gw-01"', "") + '[target.facts]\n"gateway.name" = "g"'

    assert refusal(tmp_path, text) == ["mine.toml: gateway.name: expected: Name of the Gateway; seen: nothing"]


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        (["sh", "-c", "echo first >&2; echo reason >&2; exit 3"], "exit code 3: reason"),
        (["false"], "exit code 1: no complaint"),
        (["no-such-program"], "[Errno 2] No such file or directory: 'no-such-program'"),
    ],
)
def test_command_that_fails_is_told_with_its_reason(command: list[str], seen: str) -> None:
    """The last line of its complaint is in the sentence, and the command to repeat."""
    with pytest.raises(TargetNotReadyError) as failed:
        make_ready(TargetTable(ready=(tuple(command), ("true",))), within=10)

    assert str(failed.value).startswith(f"expected: the target made ready; seen: {seen}; look next: {command[0]}")


def test_command_that_takes_too_long_is_ended() -> None:
    """A command has a deadline like everything that is waited for."""
    with pytest.raises(TargetNotReadyError) as failed:
        facts(TargetTable(ready=(("sleep", "60"),)), within=0.05)

    assert str(failed.value) == ("expected: the target made ready; seen: not done after 0.05 s; look next: sleep 60")


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ("up", "expected: facts as a JSON object; seen: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "expected: facts as a JSON object; seen: list"),
        ('{"gateway": 5}', "expected: facts gateway.name, hostname; seen: none of that name"),
    ],
)
def test_facts_that_are_none_are_refused(printed: str, sentence: str) -> None:
    """What was printed is not repeated; what is missing is told at once."""
    asked = {"gateway.name": "gateway.name", "portal.hostname": "hostname"}
    with pytest.raises(TargetNotReadyError) as failed:
        facts(TargetTable(ready=(("echo", printed),), facts=asked), within=10)

    assert str(failed.value).startswith(f"{sentence}; look next: echo ")


def test_target_without_commands_has_no_facts() -> None:
    """Where nothing makes the target ready, the file says everything."""
    assert make_ready(TargetTable(), within=10) == {}


def test_commands_find_the_python_of_the_suite_and_start_in_its_root() -> None:
    """A file needs no path of the machine it was written on."""
    code = "import json, os, sys; print(json.dumps({'cwd': os.getcwd(), 'prefix': sys.prefix}))"
    asked = {"portal.ca_file": "cwd", "google.token_file": "prefix"}

    told = facts(TargetTable(ready=(("python", "-c", code),), facts=asked), within=10)

    assert told["portal.ca_file"].value == str(environment_file.ROOT)
    assert Path(str(told["google.token_file"].value)) == Path(sys.prefix)


def test_shown_environment_has_every_key_with_its_source(tmp_path: Path) -> None:
    """Values of the file, of the name and defaults; the variable of a token, never a token."""
    lines = shown(read(written(tmp_path, COMPLETE + 'timeouts.rollout = 900\nextends = "local"')).settings)

    assert [line.split()[0] for line in lines] == list(KEYS)
    assert {" ".join(line.split()) for line in lines} > {
        'name "mine" name of the file',
        f'portal.hostname "backstage.test" {tmp_path}/mine.toml',
        "reference.image unset default",
        "timeouts.rollout 900 " + f"{tmp_path}/mine.toml",
        "timeouts.drain 600.0 default",
        "portal.expected_addresses [] default",
    }


def test_pods_that_make_load_need_an_image_and_a_namespace_apart(tmp_path: Path) -> None:
    """In the deployment's own they could act as it; on this machine load needs neither."""
    assert read(written(tmp_path, COMPLETE)).completed({}).environment.load.workers == 0

    assert refusal(tmp_path, f"{COMPLETE}load.workers = 2") == [
        "mine.toml: load: expected: `image`, as there are `workers`; seen: workers = 2"
    ]
    assert refusal(tmp_path, f'{COMPLETE}load = {{workers = 2, image = "suite:1", namespace = "mcp"}}') == [
        (
            "mine.toml: load: expected: a namespace that is none of `[namespaces]`, whose pods its own could act as; "
            'seen: workers = 2, image = "suite:1", namespace = "mcp"'
        )
    ]


def test_every_key_is_documented() -> None:
    """The page has the line of every key as the code has it."""
    page = (environment_file.ROOT / "docs" / "environments.md").read_text().splitlines()

    rows = [row(key) for key in KEYS]
    assert [line for line in page if line.startswith("| `")] == rows


def row(key: str) -> str:
    """Line of a key in `docs/environments.md`."""
    field = KEYS[key]
    default = field.get_default(call_default_factory=True, validated_data={})
    shown_default = (
        ""
        if default is None or key == "name"
        else "required"
        if default is PydanticUndefined
        else f"`{json.dumps(default)}`"
    )
    return f"| `{key}` | {shown_default} | {' '.join((field.description or '').split())} |"


def test_settings_of_no_file_lack_everything_required() -> None:
    """Each missing key is told, not only its table."""
    required = [key for key, field in KEYS.items() if field.is_required()]

    told = [sentence.split(": ")[1] for sentence in problems({}, "mine.toml")]

    assert told == required


class TestCommandLine:
    """`pytest` with the options of the plugin."""

    def test_show_environment_prints_it_and_tests_nothing(self, pytester: pytest.Pytester) -> None:
        """Only the command that prints facts is run, not those that make the target ready."""
        pytester.makepyfile("def test_nothing(): raise AssertionError")
        ready = f'target.ready = [["false"], ["cat", "{RECORDED}"]]'
        path = written(pytester.path, f'extends = "local"\n{ready}')

        result = pytester.runpytest_inprocess("-p", "fixtures.plugins.options", f"--env={path}", "--show-environment")

        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["portal.hostname *backstage.lab.test* ready command (hostname)"])
        assert len(result.outlines) == len(KEYS)

    def test_show_environment_of_a_target_that_says_nothing_is_a_usage_error(self, pytester: pytest.Pytester) -> None:
        """A failing command is told in one sentence."""
        path = written(pytester.path, 'extends = "local"\ntarget.ready = [["false"]]')

        result = pytester.runpytest_inprocess("-p", "fixtures.plugins.options", f"--env={path}", "--show-environment")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: expected: the target made ready; seen: exit code 1: *"])

    def test_test_that_needs_no_target_reads_no_environment(self, pytester: pytest.Pytester) -> None:
        """Unit tests run whatever --env says."""
        pytester.makepyfile("def test_nothing(): pass")

        result = pytester.runpytest_inprocess("-p", "fixtures.plugins.options", "--env=none")

        result.assert_outcomes(passed=1)

    def test_mistake_in_an_environment_is_told_before_the_first_test(self, pytester: pytest.Pytester) -> None:
        """It is a usage error, not the failure of a test."""
        pytester.makepyfile("def test_first(): pass\ndef test_second(timeouts): pass")

        result = pytester.runpytest_inprocess("-p", "fixtures.plugins.options", "--env=prod")

        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: environments/prod.toml: cluster.context: expected: *; seen: SET-ME"])
        assert "passed" not in result.stdout.str()

    def test_tests_hold_the_environment_with_its_target_made_ready(self, pytester: pytest.Pytester) -> None:
        """All commands are run, once for all tests."""
        pytester.makepyfile(
            "def test_name(environment, timeouts): assert environment.name == 'mine'\n"
            "def test_deadline(timeouts): assert timeouts.rollout == 600"
        )
        mark = pytester.path / "ready"
        ready = f'target.ready = [["mkdir", "{mark}"], ["cat", "{RECORDED}"]]'
        path = written(pytester.path, f'extends = "local"\n{ready}')

        result = pytester.runpytest_inprocess("-p", "fixtures.plugins.options", f"--env={path}", "--color=yes")

        result.assert_outcomes(passed=2)
        assert mark.is_dir()


def test_environment_is_what_the_file_documents() -> None:
    """Every table of the model has its documentation, as `[name]: what it is`."""
    tables = {name: field.annotation for name, field in Environment.model_fields.items() if name not in KEYS}

    assert all(f"`[{name}]`: " in str(model.__doc__) for name, model in tables.items())
    assert len(tables) == 15
