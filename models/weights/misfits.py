"""What a file is that was given for weights and is something else: said, beside the file that was wanted."""

from __future__ import annotations

import re
from pathlib import Path

from evsim.models.weights.published import PublishedWeights, published_weights, weights_folder

LARGEST_HEADER = 100 << 20
"""Bytes beyond which eight bytes are no length of a safetensors header."""


def describe_misfit(path: Path) -> str | None:
    """What the file is where it is known to be no weight file, or to be cut; None for any other."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(max(0, size - 66_000))
        end = file.read()
    if size == 0:
        return "is empty: the download or the copy broke off"
    text = start.decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype", "<html", "<?xml", "<head", "<script")):
        return "is no weight file but a web page: the link has expired, or wants a confirmation in a browser"
    if text.startswith("version https://git-lfs"):
        found = re.search(r"oid sha256:([0-9a-f]+).*?size (\d+)", text, re.DOTALL)
        of = f" to a file of {found[2]} bytes with SHA-256 {found[1]}" if found else ""
        return f"is no weight file but a git-lfs pointer{of}: fetch that with `git lfs pull`"
    length = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and size < length + 8 < LARGEST_HEADER:
        return f"is cut after {size} bytes, within its header of {length}"
    if start.startswith(b"PK\x03\x04") and b"PK\x05\x06" not in end:
        return f"is cut after {size} bytes: an archive without its end"
    return None


def describe_wanted(path: Path, network: str | None = None) -> str:
    """The published files that may have been meant, with size and checksum; empty where none is known.

    Those that are called like the file, else those of the network.
    """
    known = published_weights().values()
    wanted = [item for item in known if path.name in (item.file, Path(item.published_as).name)]
    if not any(item.file == path.name for item in wanted):
        wanted = [item for item in wanted if network in (None, item.network)]
    wanted = wanted or [item for item in known if item.network == network]
    return "; or ".join(_describe(item) for item in wanted)


def _describe(item: PublishedWeights) -> str:
    size = "" if item.bytes is None else f", {item.bytes} bytes"
    checksum = "" if item.sha256 is None else f", SHA-256 {item.sha256}"
    return f"{item.published_as} of {item.origin}{size}{checksum}, saved as {weights_folder() / item.file}"


def cut_after(path: Path) -> str:
    """Says that a file is shorter than the published one of its name, where it is; else empty."""
    size = path.stat().st_size
    for item in published_weights().values():
        if item.file == path.name and item.bytes is not None and size < item.bytes:
            return f"is cut after {size} of {item.bytes} bytes"
    return ""
