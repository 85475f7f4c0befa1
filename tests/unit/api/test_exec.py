"""Commands in a container: exit codes, and what is said of a command whose exit code is unknown."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from kubernetes.client import Configuration

from fixtures.api.client import GuardedClient
from fixtures.api.exec import CommandNotRunError, Container
from fixtures.api.testinfra import host_in, no_verdict_if_tool_missing
from fixtures.guard.permissions import Guard
from fixtures.guard.request_attributes import ForbiddenByEnvironmentError, Namespaces

PATH = "/api/v1/namespaces/backstage/pods/portal-1/exec"
SUCCESS = {"metadata": {}, "status": "Success"}
FAILURE = {
    "metadata": {},
    "status": "Failure",
    "message": "command terminated with non-zero exit code: command terminated with exit code 3",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}
NO_PROGRAM = (
    "Internal error occurred: exec failed: unable to start container process: executable file not found in $PATH"
)
NOT_STARTED = {
    "metadata": {},
    "status": "Failure",
    "message": NO_PROGRAM,
    "reason": "InternalError",
    "details": {"causes": [{"message": NO_PROGRAM}]},
    "code": 500,
}
LOOK_NEXT = "look next: kubectl -n backstage exec portal-1 -c backstage -- "

Answer = Callable[[web.WebSocketResponse, list[str]], Awaitable[None]]
Serve = Callable[[web.Application], str]


def ending(status: object, stdout: bytes = b"", stderr: bytes = b"") -> Answer:
    """A command that writes this output and ends with this status."""

    async def answer(stream: web.WebSocketResponse, _words: list[str]) -> None:
        # Channels of the protocol: standard output, standard error, and the status that ends the command.
        for channel, data in ((b"\1", stdout), (b"\2", stderr), (b"\3", json.dumps(status).encode())):
            await stream.send_bytes(channel + data)

    return answer


async def cut_off(stream: web.WebSocketResponse, _words: list[str]) -> None:
    """A connection that ends before the command does, as when the node is lost."""
    await stream.send_bytes(b"\1begun")


async def silent(stream: web.WebSocketResponse, _words: list[str]) -> None:
    """A command that neither writes nor ends."""
    await stream.receive()


def server(answer: Answer, refusal: dict[str, object] | None = None) -> web.Application:
    """An API server with one pod; with a `refusal` it answers 403 instead of opening a stream."""

    async def execute(request: web.Request) -> web.StreamResponse:
        if refusal:
            return web.json_response(refusal, status=403, dumps=lambda body: json.dumps(body, separators=(",", ":")))
        stream = web.WebSocketResponse(protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"))
        await stream.prepare(request)
        await answer(stream, request.query.getall("command"))
        return stream

    app = web.Application()
    app.router.add_get(PATH, execute)
    return app


def container(url: str, *permissions: str, within: float = 5) -> Container:
    """A container of that pod, in an environment with these permissions; `within` is in seconds."""
    configuration = Configuration()
    configuration.host = url
    guard = Guard(frozenset(permissions or ("observe", "connect")), Namespaces("backstage", "backstage", "mcp"))
    return Container(GuardedClient(configuration, guard), "backstage", "portal-1", "backstage", within)


def test_command_that_succeeds(serve: Serve) -> None:
    """Standard output and error arrive as bytes, also those that are not valid UTF-8."""
    output = container(serve(server(ending(SUCCESS, b"\xff\0" * 5000, b"mind the gap\n")))).run("true")

    assert (output.exit_code, output.stdout, output.stderr) == (0, b"\xff\0" * 5000, b"mind the gap\n")


def test_command_that_fails_has_an_exit_code(serve: Serve) -> None:
    """The summary quotes standard error, never standard output, which may hold secrets."""
    output = container(serve(server(ending(FAILURE, b"secret", b"no such\nfile\n")))).run("cat", "x")

    assert output.exit_code == 3
    assert str(output) == "exit code 3 no such file"


def test_words_arrive_as_they_are(serve: Serve) -> None:
    """Arguments arrive as they are: no shell expands or splits them."""

    async def echo(stream: web.WebSocketResponse, words: list[str]) -> None:
        await ending(SUCCESS, json.dumps(words).encode())(stream, words)

    output = container(serve(server(echo))).run("printf", "%s $HOME", "a  b;c")

    assert json.loads(output.stdout) == ["printf", "%s $HOME", "a  b;c"]


@pytest.mark.parametrize(
    ("answer", "within", "seen"),
    [
        (ending(NOT_STARTED), 5, NO_PROGRAM),
        (cut_off, 5, "no word of how it ended"),
        (silent, 0.05, "no end of it within 0.05 s"),
    ],
    ids=["no such program", "cut off", "too long"],
)
def test_command_without_an_end_is_no_verdict(serve: Serve, answer: Answer, within: float, seen: str) -> None:
    """A command that did not run to its end says nothing about a promise."""
    with pytest.raises(CommandNotRunError) as failed:
        container(serve(server(answer)), within=within).run("nodee", "--version")

    assert str(failed.value) == (
        f"expected: `nodee --version` to run in container backstage of pod backstage/portal-1\nseen: {seen}\n"
        f"{LOOK_NEXT}nodee"
    )


def test_deadline_holds_before_the_stream_is_open() -> None:
    """The handshake has a deadline too; the library would wait forever for a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        target = container(f"http://127.0.0.1:{silent_server.getsockname()[1]}", within=0.05)

        with pytest.raises(CommandNotRunError, match=r"seen: no end of it within 0\.05 s"):
            target.run("true")


def test_refusal_is_told_in_the_servers_words(serve: Serve) -> None:
    """The message has the server's words, not all its headers as the library's does; a long command is shortened."""
    refusal: dict[str, object] = {"kind": "Status", "message": 'pods "portal-1" is forbidden'}
    with pytest.raises(CommandNotRunError) as failed:
        container(serve(server(silent, refusal))).run("node", "-e", "x" * 200)

    assert str(failed.value) == (
        f"expected: `node -e {'x' * 92}…` to run in container backstage of pod backstage/portal-1\n"
        'seen: Handshake status 403 Forbidden: pods "portal-1" is forbidden\n'
        f"{LOOK_NEXT}node"
    )


def test_nothing_leaves_where_the_environment_does_not_allow_it(serve: Serve) -> None:
    """The guard refuses the exec before it is sent."""
    with pytest.raises(ForbiddenByEnvironmentError, match="get pods/exec in backstage, which needs connect"):
        container(serve(server(silent)), "observe").run("true")


def shell(exit_codes: dict[str, int], outputs: dict[str, str]) -> Answer:
    """A container whose shell knows these lines; any other ends with 127, as an unknown command does."""

    async def answer(stream: web.WebSocketResponse, words: list[str]) -> None:
        assert words[:2] == ["/bin/sh", "-c"]
        code = exit_codes.get(words[2], 0 if words[2] in outputs else 127)
        cause = {"reason": "ExitCode", "message": str(code)}
        status = {**FAILURE, "details": {"causes": [cause]}} if code else SUCCESS
        await ending(status, outputs.get(words[2], "").encode())(stream, words)

    return answer


def test_testinfra_asks_inside_the_container(serve: Serve) -> None:
    """Testinfra runs its commands in the container, with paths quoted."""
    lines = {"uname -s": "Linux\n", "cat /etc/os-release": "ID=debian\n", "uname -m": "x86_64\n"}
    stat = {"stat -Lc %a '/a b'": "644\n", "stat -Lc %u '/a b'": "0\n"}
    target = container(serve(server(shell({"test -e '/a b'": 0, "test -f '/a b'": 1}, {**lines, **stat}))))

    file = host_in(target).file("/a b")

    assert (file.exists, file.is_file, file.mode, file.uid) == (True, False, 0o644, 0)


def test_testinfra_without_its_programs_is_no_verdict(serve: Serve) -> None:
    """Testinfra raises AssertionError for a missing tool; an image without `stat` breaks no promise."""
    target = container(serve(server(shell({}, {}))))

    with pytest.raises(CommandNotRunError) as failed, no_verdict_if_tool_missing(target):
        host_in(target).run_test("test -r %s", "/a")

    assert str(failed.value) == (
        "expected: test, stat and uname in container backstage of pod backstage/portal-1\n"
        f"seen: Unexpected exit code 127\n{LOOK_NEXT}sh"
    )
