"""Where recipes find clips, what they are called, how they are timed, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evsim.errors import InputError
from evsim.pipelines.runs.recipes import RECIPES, find_source_clips

MakeClip = Callable[..., Path]


def names(recipe: str, root: Path, fps: float | None = None) -> dict[str, float | None]:
    return {clip.name: clip.fps for clip in find_source_clips(recipe, root, fps).clips}


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_gopro_clips_are_named_by_their_path_and_run_at_240_fps(gopro: Path) -> None:
    found = find_source_clips("gopro", gopro, None).clips
    assert [clip.name for clip in found] == [
        "test/D_00",
        "test/E_00",
        "train/A_00_01",
        "train/A_00_02",
        "train/B_10_00",
        "train/C_2",
    ]
    assert {clip.fps for clip in found} == {240.0}
    assert all(clip.path == gopro / clip.name for clip in found)


def test_names_do_not_depend_on_where_the_data_set_lies(gopro: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(gopro)
    assert names("gopro", tmp_path / "link") == names("gopro", gopro)


def test_gopro_large_is_refused_because_its_frames_are_not_consecutive(tmp_path: Path) -> None:
    touch(*(tmp_path / "train" / "GOPR0372_07_00" / kind / "000047.png" for kind in ("blur", "sharp")))
    with pytest.raises(InputError, match=r"sharp frames are not consecutive .*use GOPRO_Large_all"):
        find_source_clips("gopro", tmp_path, None)


def test_a_given_rate_takes_the_sharp_frames_of_gopro_large(tmp_path: Path) -> None:
    touch(*(tmp_path / "test" / "G" / kind / "000001.png" for kind in ("blur", "blur_gamma", "sharp")))
    found = find_source_clips("gopro", tmp_path, 30.0)
    assert [(clip.name, clip.path, clip.fps) for clip in found.clips] == [
        ("test/G", tmp_path / "test" / "G" / "sharp", 30.0)
    ]
    assert "sharp/ is taken at 30 fps" in found.notes[0]


def test_reds_rates_follow_the_layout(tmp_path: Path) -> None:
    touch(
        tmp_path / "train" / "train_orig" / "000" / "00000000.png",
        tmp_path / "train" / "train_sharp" / "000" / "00000000.png",
        tmp_path / "val" / "val_sharp" / "010" / "00000000.png",
        tmp_path / "val" / "val_sharp_bicubic" / "010" / "00000000.png",
        tmp_path / "train" / "train_blur" / "000" / "00000000.png",
    )
    found = find_source_clips("reds", tmp_path, None)
    assert {clip.name: clip.fps for clip in found.clips} == {
        "train/train_orig/000": 120.0,
        "train/train_sharp/000": 24.0,
        "val/val_sharp/010": 24.0,
    }
    assert [note.split(" was")[0] for note in found.notes] == ["train/train_blur", "val/val_sharp_bicubic"]
    assert set(names("reds", tmp_path, 60.0).values()) == {60.0}


def test_reds_of_unknown_layout_needs_a_rate(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "000" / "00000000.png")
    with pytest.raises(InputError, match=r"train/000 .*pass --fps"):
        find_source_clips("reds", tmp_path, None)
    assert names("reds", tmp_path, 120.0) == {"train/000": 120.0}


def test_folders_takes_image_folders_and_videos_at_any_depth(tmp_path: Path) -> None:
    touch(
        tmp_path / "a" / "1.png",
        tmp_path / "a" / "fps.txt",
        tmp_path / "b" / "c" / "1.jpg",
        tmp_path / "b" / "film.MP4",
        tmp_path / "rled" / "imgs" / "1.png",
        tmp_path / ".hidden" / "1.png",
        tmp_path / "words" / "notes.txt",
    )
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    assert list(names("folders", tmp_path)) == ["a", "b/c", "b/film.MP4", "rled"]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_root_without_clips_is_refused(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected"):
        find_source_clips(recipe, tmp_path, None)
    (tmp_path / "train" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no clip"):
        find_source_clips(recipe, tmp_path, None)
    with pytest.raises(InputError, match=r"does not exist"):
        find_source_clips(recipe, tmp_path / "nowhere", None)


def test_a_root_that_is_itself_a_clip_is_refused(gopro: Path) -> None:
    with pytest.raises(InputError, match="evsim simulate video"):
        find_source_clips("folders", gopro / "train" / "C_2", None)
