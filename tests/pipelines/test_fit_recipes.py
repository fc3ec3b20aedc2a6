"""The data sets of EvINR, from the files that are downloaded: sizes, orientation, colour, times of images."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import foreign_files
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from evsim.cli.conventions import Settings
from evsim.cli.pack import evinr
from evsim.cli.reconstruct import reconstruct
from evsim.cli.train import train
from evsim.errors import FormatError, InputError
from evsim.events import Events
from evsim.formats import create_events, open_events
from evsim.pipelines.fit_recipes import FIT_RECIPES

SIZES = {"ijrr": (240, 180), "hqf": (240, 180), "ced": (346, 260), "aed": (306, 408)}
UNIX_S = 1_500_000_000
STAMPS_S = (0.25, 0.5, 0.75)
COLUMNS, ROWS = slice(40, 60), slice(120, 160)
"""The part of the sensor that grows brighter; nothing else changes."""
NETWORKS = {
    "variational": (),
    "evinr": tuple(
        word
        for field in ("hidden_width=16", "neck_width=12", "iterations=1", "train_resolution=8")
        for word in ("--set", f"fit.{field}")
    ),
}


def brightening(size: tuple[int, int], start_s: int = 0, *, red_only: bool = False) -> Events:
    """Four ON events of each pixel of the part (of its red ones) within a second, row after row."""
    step = 2 if red_only else 1
    grid = np.mgrid[0:4, ROWS.start : ROWS.stop : step, COLUMNS.start : COLUMNS.stop : step]
    _, y, x = (side.ravel() for side in grid)
    t = start_s * 1_000_000 + np.linspace(1, 999_999, len(x)).astype(np.int64)
    return Events(t, x.astype("u2"), y.astype("u2"), np.ones(len(x), np.uint8), *size)


def in_seconds(events: Events, path: Path) -> Path:
    """The [N, 4] array that the published code reads."""
    with create_events(path, events.width, events.height, format="npy", unit="s") as writer:
        writer.append(events)
    return path


def messages(size: tuple[int, int], encoding: str, start_s: int) -> list[tuple[NDArray[np.uint8], int, str]]:
    """An image for each of the stamps: red where it is in colour."""
    width, height = size
    image = np.full((height, width), 40, np.uint8)
    if encoding == "bgr8":
        image = np.stack([image, image, image + 160], -1)
    if encoding == "bayer_rggb8":
        image[::2, ::2] = 200
    return [(image, start_s * 10**9 + round(stamp * 1e9), encoding) for stamp in STAMPS_S]


def downloaded(dataset: str, folder: Path) -> Path:
    """What a user of the data set has on disk."""
    size = SIZES[dataset]
    if dataset == "aed":
        return in_seconds(brightening(size), folder / "events.npy")
    if dataset == "ijrr":
        images = [np.full(size[::-1], 90, np.uint8)] * 3
        return foreign_files.write_ecd_folder(
            brightening(size), folder / "slider_depth", images, [1e6 * stamp for stamp in STAMPS_S]
        )
    grey = messages(size, "mono8", UNIX_S)
    colour = messages(size, "bgr8", UNIX_S) if dataset == "ced" else []
    events = brightening(size, UNIX_S, red_only=dataset == "ced")
    return foreign_files.write_rosbag(events, folder / f"{dataset}.bag", [*grey, *colour])


def run(command: Any, *words: object) -> dict[str, Any]:
    line = [*map(str, words), "--json"]
    done = CliRunner().invoke(command, line, obj=Settings(), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return dict(json.loads(done.stdout))


def frames(folder: Path) -> NDArray[np.int64]:
    """(T, H, W, 3) red, green, blue of PNG files."""
    return np.stack([cv2.imread(str(file))[..., ::-1] for file in sorted(folder.glob("*.png"))]).astype("i8")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dataset", SIZES)
def test_a_downloaded_file_is_all_that_is_needed(dataset: str, network: str, tmp_path: Path) -> None:
    how = ("--frames", 3) if dataset == "aed" else ()
    said = run(
        *(reconstruct, downloaded(dataset, tmp_path), "-o", tmp_path / "out", "--network", network),
        *("--dataset", dataset, *how, *NETWORKS[network]),
    )
    assert (said["images"], said["events_outside"]) == (3, 0)
    found = frames(tmp_path / "out")
    assert found.shape == (3, *SIZES[dataset][::-1], 3)
    if dataset != "aed":
        times = np.loadtxt(tmp_path / "out" / "timestamps.txt", ndmin=2)[:, -1]
        np.testing.assert_allclose(times, STAMPS_S, atol=1e-6)
    rise = found[-1] - found[0]
    part = rise[ROWS, COLUMNS].mean((0, 1))
    rise[ROWS, COLUMNS] = 0
    assert np.abs(rise).mean() < 4
    assert part[0] > 15
    # A rise of red alone has to look red; without a mosaic all channels are one.
    assert (part[1:] < part[0] / 4).all() if dataset == "ced" else part[0] == part[1] == part[2]


def test_red_is_red_in_a_video(tmp_path: Path) -> None:
    words = ("-o", tmp_path / "out.avi", "--network", "variational", "--dataset", "ced", "--frames", 3)
    run(reconstruct, downloaded("ced", tmp_path), *words)
    video = cv2.VideoCapture(str(tmp_path / "out.avi"))
    shown = [video.read()[1][ROWS, COLUMNS].mean((0, 1)) for _ in STAMPS_S]
    blue, green, red = shown[-1] - shown[0]
    assert red > 15
    assert max(abs(blue), abs(green)) < red / 3


@pytest.mark.parametrize("dataset", SIZES)
def test_what_is_packed_is_fitted_by_the_line_that_is_printed(dataset: str, tmp_path: Path) -> None:
    source = downloaded(dataset, tmp_path)
    packed = run(evinr, source, "-o", tmp_path / "packed", "--dataset", dataset)
    assert packed["images"] == (0 if dataset == "aed" else 3)
    assert packed["events"] == len(np.load(tmp_path / "packed" / "events.npy"))
    words = shlex.split(packed["next"])
    assert words[:2] == ["evsim", "reconstruct"]
    words[words.index("video.mp4")] = str(tmp_path / "out")
    said = run(reconstruct, *words[2:], *NETWORKS["evinr"], *(() if packed["images"] else ("--frames", 3)))
    assert (said["network"], said["images"]) == ("evinr", 3)
    assert frames(tmp_path / "out").shape == (3, *SIZES[dataset][::-1], 3)
    if dataset == "ced":
        assert frames(tmp_path / "packed" / "images")[0, 0, 0].tolist() == [200, 40, 40]


def test_a_fit_of_an_array_is_queried_by_the_line_that_is_printed(tmp_path: Path) -> None:
    source = downloaded("aed", tmp_path)
    fitted = run(
        *(train, "evinr", source, "-o", tmp_path / "run", "--dataset", "aed", "--t-end", 0.6),
        *NETWORKS["evinr"],
    )
    assert "event_threshold: 0.25" in (tmp_path / "run" / "config.yaml").read_text()
    words = shlex.split(fitted["next"])
    words[words.index("video.mp4")] = str(tmp_path / "out")
    assert words[words.index("--t-end") + 1] == "0.6"
    said = run(reconstruct, *words[2:], "--frames", 2)
    assert said["events_outside"] == fitted["events_outside"] > 0
    assert frames(tmp_path / "out").shape == (2, 408, 306, 3)
    # What pack writes is a configuration of a fit, too.
    run(evinr, source, "-o", tmp_path / "packed", "--dataset", "aed")
    words = ["evinr", source, "-o", tmp_path / "again", "--config", tmp_path / "packed" / "fit.yaml"]
    again = run(train, *words, "--size", "306x408", "--unit", "s", *NETWORKS["evinr"])
    assert again["ended"] == "finished"


def test_images_come_at_the_times_of_a_list_of_images(tmp_path: Path) -> None:
    source = downloaded("ijrr", tmp_path)
    words = ("--network", "variational", "--size", "240x180", "--times", source / "images.txt")
    run(reconstruct, source / "events.txt", "-o", tmp_path / "out.npy", *words)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out.timestamps.txt"), STAMPS_S, atol=1e-9)


def test_a_mosaic_in_a_bag_is_shown_in_colour(tmp_path: Path) -> None:
    events = brightening((346, 260), UNIX_S)
    images = messages((346, 260), "bayer_rggb8", UNIX_S)
    path = foreign_files.write_rosbag(events, tmp_path / "raw.bag", images)
    with open_events(path) as recording:
        image = recording.image(0).image
    np.testing.assert_array_equal(image[4:-4, 4:-4], np.broadcast_to([200, 40, 40], (252, 338, 3)))


def test_what_a_file_lacks_or_contradicts_is_named(tmp_path: Path) -> None:
    words = ("-o", tmp_path / "out", "--network", "variational")
    bag = foreign_files.write_rosbag(
        brightening((346, 260)),
        tmp_path / "no_events.bag",
        messages((346, 260), "mono8", 0),
        events_topic=None,
    )
    with pytest.raises(FormatError, match=r"dvs_msgs/EventArray.*/dvs/image_raw \(sensor_msgs/Image\)"):
        run(reconstruct, bag, *words, "--dataset", "ced")
    with pytest.raises(InputError, match=r"240x180 pixels, recordings of ced have 346x260.*--dataset ced"):
        run(reconstruct, downloaded("hqf", tmp_path), *words, "--dataset", "ced")
    array = downloaded("aed", tmp_path)
    for given, missing in (((), "--unit"), (("--unit", "s"), "--size")):
        with pytest.raises(InputError, match=missing):
            run(reconstruct, array, *words, *given)
    with pytest.raises(FormatError, match="outside the sensor of 50x408"):
        run(reconstruct, array, *words, "--dataset", "aed", "--size", "50x408")
    assert not (tmp_path / "out").exists()


def test_the_commands_offer_every_data_set() -> None:
    shown = CliRunner().invoke(reconstruct, ["--help"], obj=Settings()).output
    assert f"[{'|'.join(sorted(FIT_RECIPES))}]" in "".join(shown.split())
