"""Camera RAW: what reaches the pipeline is proportional to light and independent of the picture."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evsim.errors import InputError
from evsim.media import Selection, open_source, read_image

BLACK, WHITE = 512, 4512


def dng_bytes(mosaic: NDArray[np.uint16], black: int, white: int) -> bytes:
    """A DNG 1.4 of the mosaic (H, W), identity colour matrix."""
    height, width = mosaic.shape
    identity = [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]
    tags: list[tuple[int, str, list[int] | bytes]] = [
        (254, "I", [0]),
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [16]),
        (259, "H", [1]),
        (262, "H", [32803]),
        (271, "s", b"Test\0"),
        (272, "s", b"Mosaic\0"),
        (273, "I", [0]),
        (277, "H", [1]),
        (278, "I", [height]),
        (279, "I", [width * height * 2]),
        (33421, "H", [2, 2]),
        (33422, "B", bytes([0, 1, 1, 2])),
        (50706, "B", bytes([1, 4, 0, 0])),
        (50708, "s", b"Test Mosaic\0"),
        (50714, "I", [black]),
        (50717, "I", [white]),
        (50721, "r", identity),
        (50778, "H", [21]),
    ]
    kinds = {"I": (4, "I"), "H": (3, "H"), "s": (2, ""), "B": (1, ""), "r": (10, "i")}
    entries, extra = b"", b""
    extra_at = 8 + 2 + 12 * len(tags) + 4
    image_at = extra_at + 4096
    for tag, kind, value in tags:
        number, code = kinds[kind]
        if tag == 273:
            value = [image_at]
        data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{code}", *value)
        count = len(value) // 2 if kind == "r" else len(value)
        if len(data) > 4:
            field = struct.pack("<I", extra_at + len(extra))
            extra += data + b"\0" * (len(data) % 2)
        else:
            field = data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, number, count) + field
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head + extra.ljust(4096, b"\0") + mosaic.astype("<u2").tobytes()


def mosaic() -> NDArray[np.uint16]:
    """Uniform light of 3/4, 1/2 and 1/4 of full scale in red, green and blue."""
    image = np.full((32, 48), BLACK + 2000, np.uint16)
    image[0::2, 0::2] = BLACK + 3000
    image[1::2, 1::2] = BLACK + 1000
    return image


def test_light_is_linear_from_black_to_white_without_white_balance(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(dng_bytes(mosaic(), BLACK, WHITE))
    image = read_image(tmp_path / "a.dng")
    assert image.shape == (32, 48, 3)
    assert image.dtype == np.uint16
    np.testing.assert_allclose(image / 65535, np.broadcast_to([0.75, 0.5, 0.25], image.shape), atol=2e-5)


def test_a_bright_spot_does_not_change_the_scale_of_the_rest(tmp_path: Path) -> None:
    spotted = mosaic()
    spotted[4, 4] = WHITE
    (tmp_path / "a.dng").write_bytes(dng_bytes(mosaic(), BLACK, WHITE))
    (tmp_path / "b.dng").write_bytes(dng_bytes(spotted, BLACK, WHITE))
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.dng")[16:, 16:], read_image(tmp_path / "b.dng")[16:, 16:]
    )


def test_a_folder_of_raw_files_is_declared_raw(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / f"{k}.DNG").write_bytes(dng_bytes(mosaic(), BLACK, WHITE))
    source = open_source(tmp_path, selection=Selection(fps=10))
    assert (source.transfer, source.dtype, source.frame_count) == ("raw", np.uint16, 2)
    assert [frame.t_ns for frame in source] == [0, 100_000_000]


def test_garbage_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a.nef").write_bytes(b"nothing that a camera wrote" * 50)
    with pytest.raises(InputError, match=r"a\.nef is not a camera RAW file"):
        read_image(tmp_path / "a.nef")
