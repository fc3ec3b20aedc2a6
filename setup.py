"""Map the top-level folders onto the ``evsim`` package; names and metadata stand in setup.cfg."""

from setuptools import find_packages, setup

FOLDERS = ("pipelines", "models", "cli")
packages = find_packages(include=["evsim", "evsim.*"])
for folder in FOLDERS:
    packages += [f"evsim.{name}" for name in find_packages(include=[folder, f"{folder}.*"])]
setup(packages=packages, package_dir={"evsim": "evsim", **{f"evsim.{folder}": folder for folder in FOLDERS}})
