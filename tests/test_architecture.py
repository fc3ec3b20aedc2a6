"""The walls of the house: which part may import which, what is installed where, what importing costs."""

from __future__ import annotations

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"evsim": 0, "models": 1, "pipelines": 2, "cli": 3}
ROOMS = ("formats", "sensor", "isp", "upsample", "represent")
HEAVY = ("torch", "numba", "dask", "cv2", "matplotlib")


@functools.cache
def imported_modules(path: Path) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write evsim.… in full"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def source_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_dependencies_point_one_way(folder: str) -> None:
    above = [name for name, level in FOLDERS.items() if level > FOLDERS[folder]]
    for path in source_files(folder):
        for module in imported_modules(path):
            for name in above:
                assert not (module + ".").startswith(f"evsim.{name}."), f"{path} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_know_each_other(room: str) -> None:
    others = [name for name in (*ROOMS, "chain") if name != room]
    for path in source_files(f"evsim/{room}"):
        for module in imported_modules(path):
            for other in others:
                assert not (module + ".").startswith(f"evsim.{other}."), f"{path} imports {module}"


def test_shared_parts_do_not_know_the_rooms() -> None:
    for part in ("kernels", "media"):
        for path in source_files(f"evsim/{part}"):
            for module in imported_modules(path):
                for room in (*ROOMS, "chain"):
                    assert not (module + ".").startswith(f"evsim.{room}."), f"{path} imports {module}"


def network_folders() -> list[str]:
    """Folders of models that are a network's own."""
    files = sorted((ROOT / "models").glob("*/__init__.py"))
    return [path.parent.name for path in files if "\nENTRY = " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    "folder", sorted(path.parent.name for path in (ROOT / "models").glob("*/__init__.py"))
)
def test_no_network_is_imported_by_another_nor_by_a_shared_room(folder: str) -> None:
    others = [name for name in network_folders() if name != folder]
    assert others
    for path in source_files(f"models/{folder}"):
        for module in imported_modules(path):
            for other in others:
                assert not (module + ".").startswith(f"evsim.models.{other}."), f"{path} imports {module}"


def test_the_command_names_no_network_and_no_data_set() -> None:
    from evsim.models.registry import names
    from evsim.pipelines.fit_recipes import FIT_RECIPES

    # `evsim pack` has the layouts of training trees, which go by the names of who reads them.
    known = {*names(), *FIT_RECIPES}
    for path in source_files("cli"):
        if path.name != "pack.py":
            words = set(re.findall(r"[A-Za-z_]+", path.read_text(encoding="utf-8").lower()))
            assert not words & known, f"{path} names {words & known}; take it from the registry"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_are_never_imported_under_their_bare_name(folder: str) -> None:
    for name in FOLDERS:
        for path in source_files(name):
            bare = {module.split(".")[0] for module in imported_modules(path)}
            assert folder == "evsim" or folder not in bare, f"{path} imports {folder}; write evsim.{folder}"


@pytest.mark.parametrize("statement", ["import evsim", "from evsim.cli.main import cli"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", ["--help", "train --help", "reconstruct --help", "evaluate --help"])
def test_help_lists_networks_and_loads_nothing_heavy(words: str) -> None:
    code = (
        "import sys\nfrom evsim.cli.main import cli\n"
        f"cli({words.split()!r}, standalone_mode=False)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
    assert words == "--help" or "firenet" in done.stdout


def test_public_names_are_complete() -> None:
    import evsim

    for name in evsim.__all__:
        assert getattr(evsim, name) is not None
    assert sorted(evsim.__all__) == evsim.__all__
    with pytest.raises(AttributeError, match="no attribute 'voxels'"):
        _ = evsim.voxels


IMPORT_ALL = (
    "import evsim, evsim.events, evsim.pipelines, evsim.models, evsim.cli; from pathlib import Path;"
    "print(*(Path(m.__file__).resolve().parent for m in (evsim, evsim.pipelines, evsim.models, evsim.cli)))"
)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing behind in this checkout."""
    copy = tmp_path_factory.mktemp("checkout") / "source"
    copy.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def run_python(python: Path | str, code: str, folder: Path) -> str:
    # A PYTHONPATH of the user's would come before what is installed.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=folder, env=clean)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("how", ["bare checkout", "installed", "editable"])
def test_folder_mapping_holds(how: str, checkout: Path, tmp_path: Path) -> None:
    if how == "bare checkout":
        located = run_python(
            sys.executable, f"import sys; sys.path.insert(0, {str(checkout)!r}); {IMPORT_ALL}", tmp_path
        )
        assert located.split() == [str(checkout / name) for name in ("evsim", "pipelines", "models", "cli")]
        return
    environment = tmp_path / "environment"
    # numpy, which evsim.events needs, comes from the environment that runs the tests.
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "outer.pth").write_text(
        "\n".join(path for path in sys.path if path.endswith("site-packages"))
    )
    target = [str(checkout)] if how == "installed" else ["--editable", str(checkout)]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--force-reinstall", "--disable-pip-version-check", *target]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    parents = run_python(python, IMPORT_ALL, tmp_path).split()
    if how == "editable":
        assert parents == [str(checkout / name) for name in ("evsim", "pipelines", "models", "cli")]
    else:
        assert parents == [
            str(packages / "evsim" / name).rstrip("/.") for name in (".", "pipelines", "models", "cli")
        ]
        assert (packages / "evsim" / "py.typed").is_file()
        assert (packages / "evsim" / "presets" / "sim2real.yaml").is_file()
        assert not (packages / "models").exists()
        # From the root of a checkout the local sources win as a whole; the two copies never mix.
        assert run_python(python, IMPORT_ALL, checkout).split() == [
            str(checkout / name) for name in ("evsim", "pipelines", "models", "cli")
        ]
