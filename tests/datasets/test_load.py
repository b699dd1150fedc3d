"""Every kind of source, good and bad."""

from __future__ import annotations

import gzip
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import ExifTags, Image

from qkt_p2p.datasets import Dataset, LabelledData, load_dataset, save_npz
from qkt_p2p.errors import ConfigError
from qkt_p2p.types import ClassName

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 6, 5), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    sides = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sides + array.tobytes()


def write_idx(folder: Path, *, zipped: bool) -> None:
    for prefix, count in (("train", 6), ("t10k", 3)):
        labels = np.arange(count, dtype=np.uint8) % 3
        for kind, array in (("images-idx3", images(count)), ("labels-idx1", labels)):
            data = gzip.compress(idx(array)) if zipped else idx(array)
            (folder / f"{prefix}-{kind}-ubyte{'.gz' if zipped else ''}").write_bytes(data)


def write_images(root: Path, names: Iterable[str], count: int) -> None:
    names = list(names)
    for name, of_class in zip(names, np.split(images(count * len(names)), len(names)), strict=True):
        (root / name).mkdir(parents=True)
        for at, image in enumerate(of_class):
            Image.fromarray(image).save(root / name / f"{at}.png")


def ready_made() -> Dataset:
    """Stand in for an owner's own loader."""
    inputs = (images(4)[:, None] / 255).astype(np.float32)
    data = LabelledData(inputs, np.array([0, 1, 0, 1]), load_dataset_classes())
    return Dataset(data, data)


def load_dataset_classes() -> tuple[ClassName, ...]:
    return ClassName("yes"), ClassName("no")


def not_a_dataset() -> int:
    return 7


def broken() -> Dataset:
    raise RuntimeError("disk on fire")


def test_digits_are_split_once_and_for_all(tmp_path: Path) -> None:
    """All 1797 digits are there, a quarter of each class as test data, the same on every call."""
    first, second = (load_dataset("digits", root=tmp_path) for _ in range(2))
    assert len(first.train) + len(first.test) == 1797
    assert first.train.input_shape == (1, 8, 8)
    assert first.train.classes == tuple("0123456789")
    assert min(first.test.counts.values()) >= 43
    assert np.array_equal(first.train.inputs, second.train.inputs)
    assert first.train.inputs.max() == 1


def test_an_archive_loads_back_identical(tmp_path: Path) -> None:
    """What save_npz writes is the same data, float32 or 255 levels."""
    digits = load_dataset("digits", root=tmp_path)
    for dataset in (digits, ready_made()):
        save_npz(tmp_path / "data.npz", dataset)
        loaded = load_dataset("data.npz", root=tmp_path)
        for before, after in ((dataset.train, loaded.train), (dataset.test, loaded.test)):
            assert np.array_equal(before.inputs, after.inputs)
            assert np.array_equal(before.labels, after.labels)
            assert before.classes == after.classes


def test_levels_are_stored_as_bytes_where_that_is_exact(tmp_path: Path) -> None:
    """Images that came from uint8 go back to uint8."""
    save_npz(tmp_path / "data.npz", ready_made())
    with np.load(tmp_path / "data.npz") as archive:
        assert archive["train_images"].dtype == np.uint8


def test_an_archive_in_the_medmnist_convention_is_read(tmp_path: Path) -> None:
    """Colour images, labels in a column and no class names are what MedMNIST has."""
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
    labels = np.array([[0], [2], [1], [0]], np.uint8)
    path = tmp_path / "med.npz"
    np.savez(path, train_images=colour, train_labels=labels, test_images=colour, test_labels=labels)
    dataset = load_dataset("med.npz", root=tmp_path)
    assert dataset.train.input_shape == (3, 6, 5)
    assert dataset.train.classes == ("0", "1", "2")
    assert dataset.test.labels.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_mnist_files_is_read(tmp_path: Path, zipped: bool) -> None:
    """Plain and gzipped IDX files give the same data."""
    write_idx(tmp_path, zipped=zipped)
    dataset = load_dataset(".", root=tmp_path)
    assert np.array_equal(dataset.train.inputs[:, 0], images(6).astype(np.float32) / np.float32(255))
    assert dataset.test.labels.tolist() == [0, 1, 2]


def test_an_image_folder_with_train_and_test_is_read(tmp_path: Path) -> None:
    """One folder per class, its name the class."""
    write_images(tmp_path / "train", "ab", 3)
    write_images(tmp_path / "test", "ab", 2)
    dataset = load_dataset(str(tmp_path), root=tmp_path / "elsewhere")
    assert dataset.train.counts == {"a": 3, "b": 3}
    assert dataset.test.counts == {"a": 2, "b": 2}
    assert dataset.train.input_shape == (1, 6, 5)


def test_an_image_folder_without_a_split_is_split(tmp_path: Path) -> None:
    """A quarter of each class becomes test data."""
    write_images(tmp_path, "ab", 8)
    assert load_dataset(".", root=tmp_path).test.counts == {"a": 2, "b": 2}


def test_images_lie_as_they_are_shown(tmp_path: Path) -> None:
    """A camera that was held upright stores what it saw lying, and says so in EXIF."""
    write_images(tmp_path / "train", "ab", 3)
    write_images(tmp_path / "test", "ab", 2)
    upright = load_dataset(".", root=tmp_path)
    for path in tmp_path.glob("*/*/*.png"):
        with Image.open(path) as image:
            lying, note = image.transpose(Image.Transpose.ROTATE_90), image.getexif()
        note[ExifTags.Base.Orientation] = 6  # turn clockwise to show
        lying.save(path, exif=note)
    assert np.array_equal(load_dataset(".", root=tmp_path).train.inputs, upright.train.inputs)


def test_a_folder_name_of_a_mac_is_its_class(tmp_path: Path) -> None:
    """Its file systems may take "ö" apart; train and test may have come over different ones."""
    write_images(tmp_path / "train", ["ko\u0308nig", "a"], 3)
    write_images(tmp_path / "test", ["k\u00f6nig", "a"], 2)
    dataset = load_dataset(".", root=tmp_path)
    assert dataset.train.counts == {"a": 3, "k\u00f6nig": 3}
    assert dataset.test.counts == {"a": 2, "k\u00f6nig": 2}
    write_images(tmp_path / "train", ["k\u00f6nig"], 3)
    with pytest.raises(ConfigError, match="two folders 'k\u00f6nig'"):
        load_dataset(".", root=tmp_path)


def test_a_table_becomes_images(tmp_path: Path) -> None:
    """Nine columns are a 3x3 image, classes are the words of the label column."""
    rows = [",".join(["x" if at % 2 else "y", *map(str, range(at, at + 9))]) for at in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["Label," + ",".join("abcdefghi"), *rows]))
    dataset = load_dataset("t.csv", root=tmp_path)
    assert dataset.train.input_shape == (1, 3, 3)
    assert dataset.train.classes == ("x", "y")
    assert (len(dataset.train), len(dataset.test)) == (6, 2)
    assert dataset.train.inputs.max() == np.float32(15) / np.float32(255)


def test_a_function_can_bring_the_data(tmp_path: Path) -> None:
    """The named function's Dataset is returned as it is."""
    assert load_dataset(f"{__name__}:ready_made", root=tmp_path).train.classes == ("yes", "no")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not_a_dataset", "returned int"),
        ("broken", "disk on fire"),
        ("missing", "missing"),
    ],
)
def test_a_function_that_brings_none_is_named(tmp_path: Path, name: str, message: str) -> None:
    """A wrong return, an exception and a missing name are configuration errors."""
    with pytest.raises(ConfigError, match=message):
        load_dataset(f"{__name__}:{name}", root=tmp_path)


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    """An import that fails is a configuration error."""
    with pytest.raises(ConfigError, match="no_such_module"):
        load_dataset("no_such_module:function", root=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("x.npz", b"not a zip", "as .npz"),
        ("x.npz", b"", "as .npz"),
        ("x.npz", b"PK\x03\x04 truncated", "as .npz"),
        ("x.csv", b"", "header"),
        ("x.csv", b"a,b\n1,2\n", "label or class or target"),
        ("x.csv", b"label,a\n", "no rows"),
        ("x.csv", b"label,a\nx,1,2\n", "line 2"),
        ("x.csv", b"label,a\nx,one\n", "line 2"),
        ("x.csv", b"label,a\nx,0.5\nx,-3\n", "-3"),
        ("x.csv", b"label,a\nx,nan\n", "NaN"),
        ("x.csv", b"label,a\nx,1e308\n", "infinite"),
        ("x.csv", b"label,a\n\xff,1\n", "as CSV"),
        ("x.csv", b"label,a\n,1\n,0\n", "not a class name"),
        ("x.txt", b"hello", "no kind of data"),
    ],
)
def test_an_unreadable_file_is_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    """Malformed files of each kind end in one error that names the file."""
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_dataset(file, root=tmp_path)
    assert file in caught.value.message


@pytest.mark.parametrize("source", ["missing.npz", "x" * 5000, "."])
def test_data_that_is_not_there_is_named(tmp_path: Path, source: str) -> None:
    """A missing file, an impossible name and an empty folder are configuration errors."""
    with pytest.raises(ConfigError):
        load_dataset(source, root=tmp_path)


def test_an_archive_that_lacks_arrays_or_holds_objects_is_refused(tmp_path: Path) -> None:
    """Missing keys are listed, and pickled arrays are never loaded."""
    np.savez(tmp_path / "lacks.npz", train_images=images(2))
    with pytest.raises(ConfigError, match="train_labels, test_images, test_labels"):
        load_dataset("lacks.npz", root=tmp_path)
    np.savez(tmp_path / "objects.npz", train_images=np.array([{}], dtype=object))
    with pytest.raises(ConfigError, match=r"objects\.npz"):
        load_dataset("objects.npz", root=tmp_path)
    with (tmp_path / "single.npz").open("wb") as file:
        np.save(file, images(2))
    with pytest.raises(ConfigError, match="single array"):
        load_dataset("single.npz", root=tmp_path)


@pytest.mark.parametrize("labels", [np.array([0, 10**15]), np.array([0.5, 1]), np.empty(0, np.int64)])
def test_an_archive_without_names_needs_small_labels(tmp_path: Path, labels: np.ndarray) -> None:
    """Class names are only made up for labels that can be counted."""
    path = tmp_path / "x.npz"
    np.savez(path, train_images=images(2), train_labels=labels, test_images=images(2), test_labels=labels)
    with pytest.raises(ConfigError, match="neither class_names"):
        load_dataset("x.npz", root=tmp_path)


def test_an_archive_of_single_numbers_is_refused(tmp_path: Path) -> None:
    """Arrays without dimensions hold no samples."""
    one = np.array(1)
    np.savez(tmp_path / "x.npz", train_images=one, train_labels=one, test_images=one, test_labels=one)
    with pytest.raises(ConfigError, match="no samples"):
        load_dataset("x.npz", root=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "train_images, .* is no array"),
        (b"\x93NUMPY\x01\x00\x04\x00((((", "as .npz"),
        (b"\x93NUMPY\x01\x00\x04\x00\x00\x00{\n", "as .npz"),
    ],
)
def test_what_is_no_array_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    """An archive may hold anything under the name of an array."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for part in ("train", "test"):
            archive.writestr(f"{part}_images.npy", content)
            archive.writestr(f"{part}_labels.npy", content)
    with pytest.raises(ConfigError, match=message):
        load_dataset("x.npz", root=tmp_path)


def test_class_names_are_text(tmp_path: Path) -> None:
    """numpy keeps characters that there are not."""
    names = np.array([0x7FFFFFFF, 65], "<u4").view("<U1")
    two, labels = images(2), np.array([0, 1])
    np.savez(
        tmp_path / "x.npz",
        class_names=names,
        train_images=two,
        train_labels=labels,
        test_images=two,
        test_labels=labels,
    )
    with pytest.raises(ConfigError, match="class_names that are no text"):
        load_dataset("x.npz", root=tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"\x01" + data[1:],
        lambda data: data[:3],
        lambda _: b"",
        lambda data: data[:4] + bytes(4) + b"\xff" * 8,
    ],
)
def test_damaged_mnist_files_are_named(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    """Truncated and foreign IDX files name themselves."""
    write_idx(tmp_path, zipped=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match="train-images"):
        load_dataset(".", root=tmp_path)
    path.unlink()
    with pytest.raises(ConfigError, match="lacks train-images"):
        load_dataset(".", root=tmp_path)


def test_damaged_and_unequal_images_are_named(tmp_path: Path) -> None:
    """An image that cannot be read, or is of another size, names itself."""
    write_images(tmp_path, "ab", 2)
    Image.fromarray(images(1)[0][:3]).save(tmp_path / "b" / "7.png")
    with pytest.raises(ConfigError, match=r"7\.png"):
        load_dataset(".", root=tmp_path)
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"0\.png"):
        load_dataset(".", root=tmp_path)


def deep_images(root: Path, *, depth: type = np.uint16, suffix: str = "png", most: int = 4095) -> np.ndarray:
    """Write images of two classes whose levels reach `most`; return those of the first class."""
    levels: np.ndarray = np.random.default_rng(0).integers(0, most + 1, (4, 6, 5)).astype(depth)
    levels[0, 0, :2] = 0, most
    for name in "ab":
        (root / name).mkdir(parents=True)
        for at, image in enumerate(levels):
            Image.fromarray(image).save(root / name / f"{at}.{suffix}")
    return levels


@pytest.mark.parametrize(
    ("depth", "suffix"), [(np.uint16, "png"), (np.uint16, "tif"), (np.uint16, "pgm"), (np.int32, "tif")]
)
def test_grey_images_of_16_bits_keep_their_levels(tmp_path: Path, depth: type, suffix: str) -> None:
    """12 bits of 16 are dark and linear; pillow's conversion would make white of all above 255."""
    deep_images(tmp_path / "train", depth=depth, suffix=suffix)
    levels = deep_images(tmp_path / "test", depth=depth, suffix=suffix)
    train = load_dataset(".", root=tmp_path).train
    assert np.array_equal(train.of_class(ClassName("a"))[:, 0], levels.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize(
    ("depth", "most", "message"), [(np.int32, 65536, "from 0 to 65536"), (np.float32, 1, "floating-point")]
)
def test_images_beyond_16_bits_are_refused(tmp_path: Path, depth: type, most: int, message: str) -> None:
    """Their scale is unknown, so nothing is made of them."""
    deep_images(tmp_path, depth=depth, suffix="tif", most=most)
    with pytest.raises(ConfigError, match=rf"0\.tif holds .*{message}") as caught:
        load_dataset(".", root=tmp_path)
    assert "16 bits" in caught.value.fix


def test_a_folder_that_mixes_depths_is_refused(tmp_path: Path) -> None:
    """Within a part the file is named, between train/ and test/ the parts."""
    deep_images(tmp_path / "train")
    write_images(tmp_path / "test", "ab", 2)
    with pytest.raises(ConfigError, match=r"train holds uint16 images, .*test uint8"):
        load_dataset(".", root=tmp_path)
    Image.fromarray(images(1)[0]).save(tmp_path / "train" / "b" / "7.png")
    with pytest.raises(ConfigError, match=r"7\.png is uint8, the images before it uint16"):
        load_dataset(".", root=tmp_path)


def test_class_folders_without_images_are_named(tmp_path: Path) -> None:
    """Folders alone are no data."""
    (tmp_path / "a").mkdir()
    with pytest.raises(ConfigError, match="no images"):
        load_dataset(".", root=tmp_path)
