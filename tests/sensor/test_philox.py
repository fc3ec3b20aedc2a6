"""The random generator against its published numbers, and its layout over an image."""

from __future__ import annotations

import numpy as np
import pytest

from evsim.kernels.philox import cpu, random_words
from evsim.kernels.philox.reference import philox4x32

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers_of_the_publication(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert tuple(int(word) for word in philox4x32(counter, key)) == expected
    compiled = cpu.philox4x32(*(np.uint32(word) for word in (*counter, *key)))
    assert tuple(int(word) for word in compiled) == expected


@pytest.mark.parametrize("width", [1, 7, 28, 29, 33, 346])
def test_compiled_words_equal_the_reference_at_any_width(width: int) -> None:
    key = 0xFEDCBA9876543210
    words = random_words(key, (width, 3), 2**32 - 1, 5, backend="cpu")
    np.testing.assert_array_equal(words, random_words(key, (width, 3), 2**32 - 1, 5, backend="reference"))


def test_words_are_laid_out_by_quarters_of_a_row() -> None:
    words = random_words(9, (8, 2), 3, 4)
    block = philox4x32((1, 1, 3, 4), (9, 0))
    np.testing.assert_array_equal(words[1, 1::2], block)


def test_seed_frame_purpose_and_place_all_matter() -> None:
    size = (64, 48)
    fields = [random_words(*arguments) for arguments in ((1, size, 0, 0), (2, size, 0, 0), (1, size, 1, 0))]
    fields.append(random_words(1, size, 0, 1))
    for i, field in enumerate(fields):
        assert len(np.unique(field)) > 0.999 * field.size
        for other in fields[i + 1 :]:
            assert np.count_nonzero(field == other) <= 2
    bits = np.unpackbits(fields[0].view(np.uint8))
    assert abs(bits.mean() - 0.5) < 4 * 0.5 / np.sqrt(bits.size)
