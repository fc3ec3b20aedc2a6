"""The verbs for many clips, through the entry point: what they print, write, refuse and return."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def gopro(tmp_path: Path) -> Path:
    """Two clips of three grey frames in the layout of GOPRO_Large_all."""
    root = tmp_path / "GOPRO"
    rs = np.random.RandomState(0)
    for clip in ("train/A", "test/B"):
        (root / clip).mkdir(parents=True)
        texture = cv2.GaussianBlur(rs.randn(24, 40), (0, 0), 2.0)
        texture = np.clip(110 + 50 * texture / texture.std(), 0, 255).astype(np.uint8)
        for k in range(3):
            cv2.imwrite(str(root / clip / f"{k:06d}.png"), texture[:, 2 * k : 2 * k + 32])
    return root


@pytest.fixture
def done(evsim: Run, gopro: Path, tmp_path: Path) -> Path:
    """A finished run of them."""
    run = tmp_path / "run"
    assert evsim("simulate", "gopro", gopro, "-o", run, "--factor", 4, "--frames", "all").code == 0
    return run


def files(run: Path) -> dict[str, bytes]:
    found = [path for path in sorted(run.rglob("*")) if path.suffix in (".h5", ".yaml")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def test_a_run_reports_its_counts_and_resumes_without_work(evsim: Run, gopro: Path, done: Path) -> None:
    options = ("--factor", 4, "--frames", "all")
    again = evsim("simulate", "gopro", gopro, "-o", done, *options, "--resume", "--json")
    result = json.loads(again.out)
    assert (again.code, result["clips"], result["skipped"], result["done"]) == (0, 2, 2, 0)
    refused = evsim("simulate", "gopro", gopro, "-o", done, *options)
    assert refused.code == 2
    assert "--resume finishes it, --overwrite replaces it" in refused.err
    both = evsim("simulate", "gopro", gopro, "-o", done, *options, "--resume", "--overwrite")
    assert both.code == 2
    assert "give one of them" in both.err


def test_a_changed_option_is_shown(evsim: Run, gopro: Path, done: Path) -> None:
    refused = evsim("simulate", "gopro", gopro, "-o", done, "--factor", 8, "--seed", 2, "--resume")
    assert refused.code == 2
    for change in ("upsample.factor: 4 -> 8", "frames: all -> source", "seed: 0 -> 2"):
        assert change in refused.err


def test_run_json_repeats_the_run_elsewhere(evsim: Run, done: Path, tmp_path: Path) -> None:
    again = evsim("simulate", "--config", done / "run.json", "-o", tmp_path / "again", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["done"] == 2
    assert files(tmp_path / "again") == files(done)
    resumed = evsim("simulate", "--config", done / "run.json", "--resume", "--json")
    assert (resumed.code, json.loads(resumed.out)["skipped"]) == (0, 2)


def test_a_dry_run_prints_counts_and_estimates_and_writes_nothing(
    evsim: Run, gopro: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (gopro / "train" / "C").mkdir()
    (gopro / "train" / "C" / "0.png").write_bytes(b"no image")
    shown = evsim("simulate", "gopro", gopro, "-o", run, "--dry-run", "--json")
    plan = json.loads(shown.out)
    assert shown.code == 3
    assert (plan["clips"], plan["source_frames"], plan["upsampled_frames"]) == (3, 6, 2 * 17)
    assert plan["estimated_events"] > 0
    assert plan["estimated_megabytes"] > 1
    assert plan["estimated_seconds"] > 0
    assert list(plan["unreadable"]) == ["train/C"]
    assert not run.exists()


def test_the_estimates_are_near_what_comes(evsim: Run, gopro: Path, tmp_path: Path) -> None:
    plan = json.loads(evsim("simulate", "gopro", gopro, "-o", tmp_path / "run", "--dry-run", "--json").out)
    result = json.loads(evsim("simulate", "gopro", gopro, "-o", tmp_path / "run", "--json").out)
    assert plan["estimated_events"] == pytest.approx(result["events"], rel=0.5)
    assert plan["estimated_megabytes"] == pytest.approx(result["megabytes"], rel=0.1)


def test_a_failed_clip_gives_exit_code_3_and_the_line_that_resumes(
    evsim: Run, gopro: Path, tmp_path: Path
) -> None:
    frame = (gopro / "test" / "B").rename(gopro / "test" / "B_1") / "000001.png"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:80])
    run = tmp_path / "run"
    failed = evsim("simulate", "gopro", gopro, "-o", run, "--retries", 0)
    assert failed.code == 3
    assert "evsim: test/B_1 failed: " in failed.err
    assert re.search(r"^ +test/B_1 +\S+000001.png cannot be decoded", failed.out, re.MULTILINE)
    assert f"evsim simulate --config {run / 'run.json'} --resume" in failed.err
    assert (run / "train" / "A.h5").is_file()
    frame.write_bytes(whole)
    mended = evsim("simulate", "--config", run / "run.json", "--resume", "--json")
    assert (mended.code, json.loads(mended.out)["done"]) == (0, 1)


def test_shards_are_given_as_i_of_n(evsim: Run, gopro: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        part = evsim("simulate", "gopro", gopro, "-o", tmp_path / "run", "--shard", shard, "--json")
        assert (part.code, json.loads(part.out)["done"]) == (0, 1)
    wrong = evsim("simulate", "gopro", gopro, "-o", tmp_path / "run", "--shard", "3/2")
    assert wrong.code == 2
    assert "expected i/n" in wrong.err


def test_clips_of_unknown_rate_ask_for_it(evsim: Run, gopro: Path, tmp_path: Path) -> None:
    asked = evsim("simulate", "reds", gopro, "-o", tmp_path / "reds")
    assert asked.code == 2
    assert "pass --fps" in asked.err
    told = evsim("simulate", "reds", gopro, "-o", tmp_path / "reds", "--fps", 120, "--factor", 2, "--json")
    assert (told.code, json.loads(told.out)["frames"]) == (0, 10)


def test_any_tree_of_clips_is_simulated(evsim: Run, video: Path, folder: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    video.rename(tree / "deep" / video.name)
    folder.rename(tree / "images")
    run = tmp_path / "run"
    done = evsim("simulate", "folders", tree, "-o", run, "--preset", "v2e-clean", "--factor", 2, "--json")
    assert (done.code, json.loads(done.out)["done"]) == (0, 2), done.err
    assert sorted(path.relative_to(run).as_posix() for path in run.rglob("*.h5")) == [
        "deep/clip.avi.h5",
        "images.h5",
    ]


def test_a_run_is_packed_for_training(evsim: Run, done: Path, tmp_path: Path) -> None:
    packed = evsim("pack", "gopro", done, "-o", tmp_path / "packed", "--json")
    assert packed.code == 0, packed.err
    result = json.loads(packed.out)
    assert (result["clips"], result["intervals"], result["images"]) == (2, 16, 18)
    assert len(list((tmp_path / "packed" / "train_x4interpolated" / "EVS" / "A").iterdir())) == 8


PLUGIN = """
from evsim.pipelines.runs.recipe import Recipe, SourceClip, clip_name, found_clips, subfolders

def find_odd(root, fps):
    clips = [SourceClip(clip_name(folder, root), folder, fps or 50.0) for folder in subfolders(root / "odd")]
    return found_clips(clips, root, "odd/<clip>/*.png")

ODD = Recipe(
    summary="Events of an odd data set.",
    example="evsim simulate odd ODD -o run",
    find=find_odd,
    preset="v2e-clean",
    defaults={"upsample": {"factor": 3}},
)
"""


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package that announces recipes: names and objects of its module `odd_recipes`."""

    def install(**recipes: str) -> None:
        site = tmp_path / "site"
        (site / "odd_recipes-1.dist-info").mkdir(parents=True)
        (site / "odd_recipes.py").write_text(PLUGIN)
        (site / "odd_recipes-1.dist-info" / "METADATA").write_text("Name: odd-recipes\nVersion: 1\n")
        points = "".join(f"{name} = odd_recipes:{thing}\n" for name, thing in recipes.items())
        (site / "odd_recipes-1.dist-info" / "entry_points.txt").write_text(f"[evsim.recipes]\n{points}")
        monkeypatch.syspath_prepend(site)

    return install


def test_a_recipe_of_another_package_is_a_command(
    announce: Callable[..., None], evsim: Run, gopro: Path, tmp_path: Path
) -> None:
    announce(odd="ODD")
    (gopro / "train").rename(gopro / "odd")
    listed = evsim("simulate", "--help").out
    assert re.search(r"^  odd +Events of an odd data set\.$", listed, re.MULTILINE)
    assert all(re.search(rf"^  {name} +\S", listed, re.MULTILINE) for name in ("folders", "gopro", "reds"))
    assert "Example: evsim simulate odd ODD -o run" in evsim("simulate", "odd", "--help").out
    done = evsim("simulate", "odd", gopro, "-o", tmp_path / "run", "--json")
    assert (done.code, json.loads(done.out)["frames"]) == (0, 7), done.err
    again = evsim("simulate", "--config", tmp_path / "run" / "run.json", "--resume", "--json")
    assert (again.code, json.loads(again.out)["skipped"]) == (0, 1), again.err


def test_the_help_of_all_verbs_loads_no_recipe() -> None:
    code = (
        "import sys; from evsim.cli.main import main; sys.argv = ['evsim', '--help']\n"
        "try: main()\nexcept SystemExit: print([m for m in sys.modules if 'recipes' in m or m == 'numpy'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.endswith("\n[]\n")


def test_a_recipe_that_cannot_be_loaded_is_named_with_its_package(
    announce: Callable[..., None], evsim: Run, gopro: Path, tmp_path: Path
) -> None:
    announce(gone="NOTHING")
    refused = evsim("simulate", "gone", gopro, "-o", tmp_path / "run")
    assert refused.code == 2
    assert "'gone' of odd-recipes (odd_recipes:NOTHING) cannot be loaded" in refused.err
    # Others work as before.
    assert evsim("simulate", "gopro", gopro, "-o", tmp_path / "run", "--dry-run").code == 0


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ({"function": "find_odd"}, "'function' is a function, expected a Recipe"),
        ({"gopro": "ODD"}, "recipe 'gopro' is evsim's own"),
    ],
)
def test_an_entry_point_that_is_no_recipe_is_refused(
    recipes: dict[str, str], said: str, announce: Callable[..., None], evsim: Run
) -> None:
    announce(**recipes)
    refused = evsim("simulate", "--help")
    assert refused.code == 2
    assert said in refused.err


def test_options_of_a_run_belong_behind_its_verb(evsim: Run, gopro: Path, tmp_path: Path) -> None:
    wrong = evsim("simulate", "--workers", 2, "gopro", gopro, "-o", tmp_path / "run")
    assert wrong.code == 2
    assert "--workers belongs behind gopro" in wrong.err
    nothing = evsim("simulate")
    assert nothing.code == 2
    assert "--config run.json" in nothing.err
    other = tmp_path / "run.json"
    other.write_text("{}")
    strange = evsim("simulate", "--config", other)
    assert strange.code == 2
    assert "is not the run.json of a run" in strange.err
