"""Image triplets: lists and folders of them, what is refused before the first sample, what a sample holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from evsim.errors import ConfigError, InputError
from evsim.models.data.augmentation import AugmentationConfig
from evsim.models.data.stretch import Stretch
from evsim.models.data.triplets import INTERVAL_US, Triplet, TripletData, TripletDataset, find_triplets

NAMES = ("im1.png", "im2.png", "im3.png")


def picture(place: int, number: int, size: tuple[int, int] = (14, 10)) -> np.ndarray:
    """RGB, different everywhere."""
    y, x = np.mgrid[: size[1], : size[0]]
    return np.stack([9 * x + number, 11 * y + 40 * number, 0 * x + 60 * place + number], -1).astype(np.uint8)


def write_triplet(folder: Path, place: int, names: tuple[str, ...] = NAMES) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), picture(place, number)[..., ::-1])
    return folder


@pytest.fixture
def vimeo(tmp_path: Path) -> Path:
    """The layout of Vimeo-90K: four triplets, of which the test list names the last."""
    for place, name in enumerate(("00001/0001", "00001/0002", "00002/0001", "00002/0007")):
        write_triplet(tmp_path / "vimeo" / "sequences" / name, place)
    root = tmp_path / "vimeo"
    (root / "tri_trainlist.txt").write_text("00001/0001\n00001/0002\n00002/0001\n\n")
    (root / "tri_testlist.txt").write_bytes(b"\xef\xbb\xbf00002/0007 \r\n\r\n")
    return root


def folders(triplets: list[Triplet]) -> list[str]:
    return ["/".join(triplet.folder.parts[-2:]) for triplet in triplets]


def test_lists_with_empty_lines_other_line_ends_and_a_byte_order_mark_are_read(vimeo: Path) -> None:
    train = find_triplets(vimeo / "tri_trainlist.txt")
    assert folders(train) == ["00001/0001", "00001/0002", "00002/0001"]
    assert {triplet.names for triplet in train} == {NAMES}
    assert folders(find_triplets(vimeo / "tri_testlist.txt")) == ["00002/0007"]


def test_one_half_of_the_data_is_enough_for_its_own_list(vimeo: Path) -> None:
    for name in NAMES:
        (vimeo / "sequences/00001/0001" / name).unlink()
    assert len(TripletDataset(vimeo / "tri_testlist.txt")) == 1
    with pytest.raises(InputError, match=r"tri_trainlist\.txt, line 1: .*0001 holds 0 images"):
        TripletDataset(vimeo / "tri_trainlist.txt")


def test_what_is_listed_and_not_there_is_named_with_its_line(vimeo: Path) -> None:
    (vimeo / "list.txt").write_text("00001/0001\n\n00009/0001\n")
    with pytest.raises(InputError, match=r"list\.txt, line 3: there is no folder .*00009/0001"):
        find_triplets(vimeo / "list.txt")
    (vimeo / "list.txt").write_text("00001/0001\n00001/0001\n")
    with pytest.raises(InputError, match="0001 is named more than once; name each triplet once"):
        find_triplets(vimeo / "list.txt")
    (vimeo / "list.txt").write_text("\r\n \n")
    with pytest.raises(InputError, match="lists nothing"):
        find_triplets(vimeo / "list.txt")
    with pytest.raises(
        InputError, match=r"holds lists of triplets \(list\.txt, tri_testlist\.txt, tri_train"
    ):
        find_triplets(vimeo)
    with pytest.raises(InputError, match="no such file"):
        find_triplets(vimeo / "tri_vallist.txt")


def test_triplets_of_ones_own_have_any_names_in_natural_order(tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_triplet(own / "b", 0, ("frame_9.png", "frame_10.png", "frame_11.png"))
    write_triplet(own / "a" / "deep", 1, ("x.png", "y.png", "z.png"))
    found = find_triplets(own)
    assert [triplet.folder.name for triplet in found] == ["deep", "b"]
    assert found[1].names == ("frame_9.png", "frame_10.png", "frame_11.png")
    assert find_triplets(own / "b") == found[1:]
    write_triplet(own / "c", 2, tuple(f"im{k}.png" for k in range(1, 8)))
    with pytest.raises(InputError, match=r"c holds 7 images \(im1\.png, .*im7\.png\), expected the three"):
        find_triplets(own)


def test_a_sample_is_a_stretch_without_events(vimeo: Path) -> None:
    config = AugmentationConfig(flip_x=0.0)
    stretch: Stretch = TripletDataset(vimeo / "tri_trainlist.txt", config)[1]
    assert (len(stretch.events), stretch.events.width, stretch.events.height) == (0, 14, 10)
    assert [image.t_us / INTERVAL_US for image in stretch.images] == [0, 0.5, 1]
    for number, image in enumerate(stretch.images):
        np.testing.assert_array_equal(image.image, picture(1, number))
    assert stretch.opening_image(0) is stretch.images[0]
    assert stretch.window_image(0) is stretch.images[2]
    assert stretch.key == str(vimeo / "sequences/00001/0002")


def test_reversed_time_gives_the_last_image_first(vimeo: Path) -> None:
    config = AugmentationConfig(flip_x=0.0, reverse_time=1.0)
    dataset = TripletDataset(
        vimeo / "tri_testlist.txt", config, transform=lambda stretch, draws: stretch.images
    )
    for number, image in enumerate(dataset[0]):
        np.testing.assert_array_equal(image.image, picture(3, 2 - number))
        assert image.t_us == INTERVAL_US * number / 2


def test_images_that_differ_and_crops_that_are_too_large_are_named(vimeo: Path) -> None:
    cv2.imwrite(str(vimeo / "sequences/00001/0002/im2.png"), picture(0, 0, (14, 11)))
    dataset = TripletDataset(vimeo / "tri_trainlist.txt")
    with pytest.raises(InputError, match=r"00001/0002: im1\.png uint8 \(10, 14, 3\), im2\.png uint8 \(11, "):
        _ = dataset[1]
    dataset = TripletDataset(vimeo / "tri_trainlist.txt", AugmentationConfig(crop=(15, 10)))
    with pytest.raises(InputError, match="00001/0001: crop of 15x10 is larger than the recording of 14x10"):
        _ = dataset[0]


def test_a_share_of_the_training_list_validates(vimeo: Path) -> None:
    def transform(stretch: Stretch, draws: object) -> str:
        return stretch.key

    lists = str(vimeo / "tri_trainlist.txt"), str(vimeo / "tri_testlist.txt")
    train, validation = TripletData(train=lists[:1], validation_share=0.4).datasets(transform)
    assert folders(train.triplets) == ["00001/0001"]
    assert validation is not None
    assert folders(validation.triplets) == ["00001/0002", "00002/0001"]
    assert validation.augmentation == AugmentationConfig(flip_x=0.0, random_crop=False)
    train, validation = TripletData(train=lists[:1], validation=lists[1:]).datasets(transform)
    assert (len(train), len(validation or ())) == (3, 1)
    assert TripletData(train=lists[:1]).datasets(transform)[1] is None
    with pytest.raises(ConfigError, match="names no triplets"):
        TripletData().datasets(transform)
    with pytest.raises(ConfigError, match="beside validation"):
        TripletData(train=lists[:1], validation=lists[1:], validation_share=0.1)
