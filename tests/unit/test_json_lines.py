"""Reading files and pipes while another process still writes to them."""

from __future__ import annotations

from pathlib import Path

from fixtures.json_lines import Lines, Splitter, write


def test_line_waits_for_its_end() -> None:
    """A line is returned only once it is complete, however its bytes arrive."""
    splitter = Splitter()

    assert [splitter.lines(each) for each in (b"a", b"b\nc", b"\n\nd", b"")] == [[], [b"ab"], [b"c", b""], []]


def test_file_is_read_on_from_where_it_was_left(tmp_path: Path) -> None:
    """Each complete line is returned once; a file that does not exist yet has none."""
    path = tmp_path / "rows.jsonl"
    lines = Lines(path, dict[str, int])
    assert lines.new() == []

    with path.open("w") as file:
        write(file, {"a": 1})
        assert lines.new() == [{"a": 1}]
        write(file, {"a": 2})
        file.write('{"a": ')
        file.flush()
        assert lines.new() == [{"a": 2}]
        file.write("3}\n")
        file.flush()
        assert lines.new() == [{"a": 3}]
