"""The manifest survives crashes: whole lines count, a torn last one does not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from evsim.errors import FormatError
from evsim.pipelines.runs.job import JobRecord, Output
from evsim.pipelines.runs.manifest import ManifestWriter, latest_records, read_manifest


def record(name: str, finished: str = "2024-01-01T00:00:00", **facts: object) -> JobRecord:
    outputs = (Output(name=f"{name}.h5"),)
    return JobRecord(name=name, status="done", outputs=outputs, facts=facts, finished=finished)


def write(path: Path, *records: JobRecord) -> None:
    with ManifestWriter(path) as manifest:
        for one in records:
            manifest.append(one)


def test_records_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    first = record("train/a", events=5, labels={"signal": 5}, parameters={"isp": {"w": [1.5]}})
    first = dataclasses.replace(first, notes=("x",), outputs=(*first.outputs, Output(name="a", bytes=3)))
    write(path, first, record("b"))
    assert list(read_manifest(path)) == [first, record("b")]
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("torn", [1, 20, -1])
def test_a_torn_last_line_is_dropped_and_cut_before_the_next(torn: int, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write(path, record("a"), record("b"))
    whole = path.read_bytes()
    first, second = whole.splitlines(keepends=True)
    path.write_bytes(first + second[:torn])
    assert [one.name for one in read_manifest(path)] == ["a"]
    write(path, record("b"))
    assert path.read_bytes() == whole


def test_a_manifest_of_one_torn_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b'{"clip": "' + b"a" * 200_000)
    assert list(read_manifest(path)) == []
    write(path, record("a"))
    assert [one.name for one in read_manifest(path)] == ["a"]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write(path, record("a"))
    path.write_bytes(path.read_bytes() + b"garbage\n" + path.read_bytes())
    with pytest.raises(FormatError, match="line 2"):
        list(read_manifest(path))


def test_the_latest_record_counts_over_all_shards(tmp_path: Path) -> None:
    write(tmp_path / "manifest-1-of-2.jsonl", record("a", "2024-01-02", events=2), record("b"))
    write(tmp_path / "manifest-2-of-2.jsonl", record("a", "2024-01-01", events=1), record("c"))
    found = latest_records(tmp_path)
    assert sorted(found) == ["a", "b", "c"]
    assert found["a"].facts["events"] == 2
