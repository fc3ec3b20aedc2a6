"""Upsampling methods that other packages announce: by name, with weights, in any process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import yaml
from announced import installed
from upsample_scenes import clip_of, moving_texture, to_bytes

from evsim import configuration
from evsim.errors import ConfigError, InputError
from evsim.media import open_source
from evsim.models.data.dataset import Share, StepSampler, make_loader
from evsim.models.data.sequences import SequenceConfig, voxel_sequences
from evsim.models.data.simulation import SimulatedDataset, SimulationData
from evsim.pipelines.runs.executors import Processes
from evsim.pipelines.runs.manifest import latest_records
from evsim.pipelines.runs.run import RunOptions, execute_run
from evsim.pipelines.runs.simulation import SimulationRun, describe_run
from evsim.pipelines.simulate import compose, simulate_clip
from evsim.pipelines.stages import upsample_to_file
from evsim.upsample import UpsampleConfig, make_interpolator, upsample

TOY = """
import hashlib, pathlib
import numpy as np
from evsim.errors import ConfigError

class Brighter:
    \"\"\"The first frame, brighter by what stands in the weight file: unlike anything built in.\"\"\"
    def __init__(self, config):
        if set(config.options) - {"twice"}:
            raise ConfigError(f"options of brighter: {sorted(config.options)}, expected twice")
        named = {"network": config.weights, **config.part_weights}
        contents = {name: pathlib.Path(path).read_bytes() for name, path in named.items()}
        self.files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        self.add = float(contents["network"]) * (2 if config.options.get("twice") else 1)
        with open(config.weights + ".loads", "a") as log:
            log.write("x")

    def prepare(self, frame0, frame1):
        self.frame0 = frame0
        return self

    def pictures(self, fractions):
        return [self.frame0.astype(np.float32) + np.float32(self.add) for _ in fractions]

class Family:
    def names(self):
        return ["brighter", "dimmer"]
    def __call__(self, config):
        return Brighter(config)

FAMILY = Family()
"""


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Path]:
    """A package with a method called `toy` and a family of two more; gives a weight file that adds 10."""
    points = {"toy": "toy_interpolators:Brighter", "family": "toy_interpolators:FAMILY"}
    with installed(tmp_path / "site", "toy_interpolators", TOY, evsim_interpolators=points):
        weights = tmp_path / "ten.txt"
        weights.write_text("10")
        yield weights


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def loads(weights: Path) -> int:
    log = Path(f"{weights}.loads")
    return len(log.read_text()) if log.exists() else 0


def write_clip(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    for k in range(4):
        image = to_bytes(moving_texture(k, size=(40, 28), velocity=(2, 1), seed=seed))
        cv2.imwrite(str(folder / f"{k:06d}.png"), image)
    (folder / "fps.txt").write_text("30\n")
    return folder


@pytest.mark.parametrize("method", ["toy", "brighter"])
def test_a_method_is_found_by_name(toy: Path, method: str) -> None:
    source = clip_of(*[np.full((20, 20), value, np.uint8) for value in (100, 104)])
    frames = list(upsample(source, UpsampleConfig(method=method, factor=3, weights=str(toy))))
    assert [int(frame.image[0, 0]) for frame in frames] == [100, 110, 110, 104]


def test_a_misspelt_method_is_an_error_of_the_constructor(toy: Path) -> None:
    with pytest.raises(ConfigError, match=r"method = 'nnoe'.*did you mean 'none'"):
        UpsampleConfig(method="nnoe")
    with pytest.raises(ConfigError, match=r"did you mean 'brighter'.*none, flow.*brighter, dimmer"):
        UpsampleConfig(method="brigter")
    with pytest.raises(ConfigError, match=r"upsample.method = 'family'"):
        compose(overrides=("upsample.method=family",))


def test_what_is_announced_is_not_looked_up_for_built_in_methods() -> None:
    code = (
        "import sys; from evsim.upsample import UpsampleConfig; UpsampleConfig(method='none');"
        "UpsampleConfig(); print([m for m in ('importlib.metadata', 'torch', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    assert "cv2" not in done.stdout


def test_weights_with_a_method_that_takes_none_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"weights = 'rife.pth', but method flow"):
        UpsampleConfig(weights="rife.pth")


def test_a_package_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    broken = {"broken": "no_such_module_here:Thing"}
    with installed(tmp_path, "broken_package", "", evsim_interpolators=broken):
        with pytest.raises(InputError, match="'broken' of broken_package"):
            UpsampleConfig(method="broken")


def test_configurations_are_written_as_before_while_nothing_new_is_set() -> None:
    written = configuration.to_tree(UpsampleConfig())
    assert not {"weights", "part_weights", "options"} & set(written)


def test_the_command_takes_method_and_weights(toy: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip")
    overrides = ("upsample.method=toy", f"upsample.weights={toy}", "upsample.factor=2")
    done = upsample_to_file(open_source(clip), tmp_path / "dense", compose(overrides=overrides))
    assert done["files"] == {"network": sha256(toy)}
    first, between = (cv2.imread(str(tmp_path / "dense" / f"{k:08d}.png")) for k in (0, 1))
    assert np.array_equal(between, np.minimum(first.astype(int) + 10, 255))
    text = (tmp_path / "dense.config.yaml").read_text()
    assert f"# network: {sha256(toy)}" in text
    assert yaml.safe_load(text)["upsample"]["weights"] == str(toy)
    again = upsample_to_file(
        open_source(clip), tmp_path / "again", compose(config_file=tmp_path / "dense.config.yaml")
    )
    assert again["files"] == done["files"]


def test_the_content_of_weights_not_their_place_decides_what_a_file_says(toy: Path, tmp_path: Path) -> None:
    flow = tmp_path / "flow.txt"
    flow.write_text("an estimator")
    moved = toy.with_name("moved.txt")
    moved.write_bytes(toy.read_bytes())
    stored = []
    for k, weights in enumerate((toy, moved)):
        parts = f"upsample.part_weights.flow={flow}"
        job = compose(overrides=("upsample.method=toy", f"upsample.weights={weights}", parts))
        source = open_source(write_clip(tmp_path / f"clip{k}"))
        result = simulate_clip(source, tmp_path / f"{k}.h5", job)
        with h5py.File(result.output) as file:
            stored.append(file.attrs["config"])
    assert stored[0] == stored[1]
    upsampling = json.loads(stored[0])["upsample"]
    assert upsampling["files"] == {"flow": sha256(flow), "network": sha256(toy)}
    assert not {"weights", "part_weights"} & set(upsampling)


def run_of(root: Path, weights: Path) -> SimulationRun:
    return describe_run("folders", root, overrides=("upsample.method=toy", f"upsample.weights={weights}"))


def test_runs_in_other_processes_load_the_same_and_notice_other_weights(toy: Path, tmp_path: Path) -> None:
    for k in range(3):
        write_clip(tmp_path / "clips" / f"c{k}", seed=k)
    run = run_of(tmp_path / "clips", toy)
    assert execute_run(run, tmp_path / "serial").complete
    assert execute_run(run, tmp_path / "run", executor=Processes(2)).complete
    for name, record in latest_records(tmp_path / "run").items():
        assert record.facts["files"] == {"network": sha256(toy)}
        assert record.output.checksum == latest_records(tmp_path / "serial")[name].output.checksum
    kept = execute_run(run, tmp_path / "run", options=RunOptions(resume=True))
    assert (kept.skipped, len(kept.records)) == (3, 0)
    toy.write_text("20")
    again = execute_run(run, tmp_path / "run", options=RunOptions(resume=True))
    assert (again.skipped, len(again.records)) == (0, 3)
    assert {record.facts["files"]["network"] for record in latest_records(tmp_path / "run").values()} == {
        sha256(toy)
    }


def test_flow_has_no_files_in_its_record(tmp_path: Path) -> None:
    write_clip(tmp_path / "clips" / "c")
    assert execute_run(describe_run("folders", tmp_path / "clips"), tmp_path / "run").complete
    assert "files" not in latest_records(tmp_path / "run")["c"].facts
    interpolator = make_interpolator(UpsampleConfig())
    assert interpolator is not None
    assert interpolator.files == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_training_loads_the_weights_once_in_each_process(toy: Path, tmp_path: Path, workers: int) -> None:
    clips = [write_clip(tmp_path / f"c{k}", seed=k) for k in range(4)]
    wanted = {"method": "toy", "weights": str(toy), "factor": 2}
    data = SimulationData(preset="ideal", upsample=wanted, settle=0)
    config = SequenceConfig(length=1)
    dataset = SimulatedDataset(clips, data, config, transform=voxel_sequences(2))
    keys = StepSampler(len(dataset), 0, Share(batch_size=2), 0, 6)
    batches = list(make_loader(dataset, keys, 0, workers=workers))
    assert all(batch["voxels"].any() for batch in batches)
    assert loads(toy) == max(1, workers)
