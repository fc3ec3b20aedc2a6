"""How often a recording that can only be streamed is read from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from evsim.cli.main import cli
from evsim.events import Events
from evsim.formats import open_events, save_events
from evsim.formats.storage.excerpt import cut_excerpt, time_span
from evsim.formats.text import TextRecording


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """20,000 events in 0.4 s, every tenth of them between two microseconds."""
    draws = np.random.default_rng(0)
    t = np.sort(draws.integers(0, 400_000, 20_000)).astype(np.int64)
    x, y, p = (draws.integers(0, most, len(t)) for most in (32, 24, 2))
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8), 32, 24)
    path = save_events(events, tmp_path / "a.txt")
    lines = path.read_text().splitlines()
    lines[1::10] = [line.replace("000 ", "300 ", 1) for line in lines[1::10]]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events each pass read so far; that of the first block alone is not one."""
    found: list[int] = []
    parsed, build_index = TextRecording._parsed, TextRecording._build_index

    def counting(self: TextRecording, *arguments: Any) -> Iterator[Events]:
        found.append(0)
        number = len(found) - 1
        for block in parsed(self, *arguments):
            yield block
            found[number] += len(block)

    def building(self: TextRecording) -> Any:
        found.append(20_000)
        return build_index(self)

    monkeypatch.setattr(TextRecording, "_parsed", counting)
    monkeypatch.setattr(TextRecording, "_build_index", building)
    return found


@pytest.mark.parametrize(
    "words",
    [(), ("--t-start", "0.1"), ("--t-end", "0.3"), ("--events-per-window", "3000")],
    ids=" ".join,
)
def test_a_reconstruction_reads_a_text_file_twice(
    text: Path, tmp_path: Path, passes: list[int], words: tuple[str, ...]
) -> None:
    command = ["reconstruct", str(text), "-o", str(tmp_path / "out"), "--network", "variational"]
    done = CliRunner().invoke(cli, [*command, "--iterations", "1", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert sum(count > 0 for count in passes) <= 2


def test_what_a_pass_told_is_remembered_and_counts_nothing_twice(text: Path, passes: list[int]) -> None:
    with open_events(text) as recording:
        events = recording.events()
        rounded = recording.rounded_times
        assert rounded == 2000
        assert len(recording) == len(events) == 20_000
        assert time_span(recording) == (int(events.t[0]), int(events.t[-1]))
        assert recording.first_time() == int(events.t[0])
        assert sum(count > 0 for count in passes) == 1
    with open_events(text) as recording:
        assert recording.extent() == (20_000, int(events.t[0]), int(events.t[-1]))
        assert recording.rounded_times == 0
        assert len(recording.events()) == 20_000
        assert recording.rounded_times == rounded


@pytest.mark.parametrize("suffix", [".txt", ".h5"])
def test_an_excerpt_knows_what_it_holds(text: Path, tmp_path: Path, passes: list[int], suffix: str) -> None:
    with open_events(text) as recording:
        events = recording.events()
        path = text if suffix == ".txt" else save_events(events, tmp_path / "a.h5")
    passes.clear()
    first = int(events.t[0])
    inside = events.between(first + 100_000, first + 200_000)
    with open_events(path) as recording:
        excerpt = cut_excerpt(recording, 0.1, 0.2)
        assert excerpt.extent() == (len(inside), int(inside.t[0]), int(inside.t[-1]))
        assert (len(excerpt), len(recording)) == (len(inside), len(events))
        assert sum(count > 0 for count in passes) == (suffix == ".txt")
        np.testing.assert_array_equal(excerpt.events().t, inside.t)
