"""Reading label images: what is right comes through unchanged, what is wrong is named."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from loop.errors import InvalidInputError
from loop.images import (
    MAX_PIXELS,
    downsample,
    list_images,
    read_index,
    read_labels,
    split_by_name,
    to_phases,
)


def _save(path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Path:
    Image.fromarray(array).save(path)
    return path


def _png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


LABELS = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".pgm", ".gif"])
def test_labels_come_back_as_stored(tmp_path: Path, suffix: str) -> None:
    path = _save(tmp_path / f"a{suffix}", LABELS)
    read = read_labels(path)
    assert read.dtype == np.uint8
    assert np.array_equal(read, LABELS)


def test_palette_indices_are_labels(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS).convert("P")
    image.putdata(LABELS.ravel().tolist())
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png"), LABELS)


def test_one_bit_images_are_labels_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 0).save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png"), (LABELS > 0).astype(np.uint8))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_unreadable_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"broken\.png is not readable.*PNG"):
        read_labels(path)


def test_truncated_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 2, (200, 200), dtype=np.uint8)).save(buffer, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(InvalidInputError, match=r"cut\.png is not readable.*save it again"):
        read_labels(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_wrong_depth(tmp_path: Path, dtype: type[np.generic]) -> None:
    path = _save(tmp_path / "deep.tif", LABELS.astype(dtype))
    with pytest.raises(InvalidInputError, match=r"deep\.tif has depth (I;16|I|F).*8-bit"):
        read_labels(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_colour_where_labels_are_due(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "colour.tif"
    Image.fromarray(LABELS).convert("RGB" if mode == "CMYK" else "L").convert(mode).save(path)
    with pytest.raises(InvalidInputError, match=rf"in colour \(mode {mode}\).*8-bit greyscale"):
        read_labels(path)


def test_several_pages(tmp_path: Path) -> None:
    pages = [Image.fromarray(LABELS), Image.fromarray(LABELS[::-1])]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InvalidInputError, match="has 2 pages; expected one"):
        read_labels(tmp_path / "stack.tif")


@pytest.mark.parametrize("edge", [10_500, 12_000, 20_000, 60_000])
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, edge: int) -> None:
    """A few bytes that claim a huge image: our limit, and Pillow's warning and error above it."""
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(edge, edge, 8, 0, b"\0" * 1000))
    with pytest.raises(InvalidInputError, match=r" pixels; the limit is 80,000,000 .*cut it"):
        read_labels(path)


def test_the_limit_admits_large_micrographs() -> None:
    assert MAX_PIXELS >= 8192 * 8192


def test_labels_become_phases() -> None:
    assert np.array_equal(
        to_phases(Path("a.png"), LABELS, [0, 1, 1]), np.minimum(LABELS, 1).astype(np.uint8)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 2], r"pixel values 0, 1, 2; expected labels 0 to 1.*add the missing labels"),
        ([0, 255], r"pixel values 0, 255; expected labels 0 to 1.*relabel them to 0 … 1"),
        (
            list(range(256)),
            r"pixel values 0, 1, 2, 3, 4, 5, …; .*grey micrograph; only label images are supported",
        ),
    ],
)
def test_label_beyond_the_phases(values: list[int], message: str) -> None:
    pixels = np.array([values], dtype=np.uint8)
    with pytest.raises(InvalidInputError, match=rf"b\.png has {message}"):
        to_phases(Path("b.png"), pixels, [0, 1])


def test_images_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.tif", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    assert [f.name for f in list_images(tmp_path)] == ["a.tif", "b.png"]


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="does not exist; expected a folder"):
        list_images(tmp_path / "none")
    with pytest.raises(InvalidInputError, match=r"holds no image \(0 other files\)"):
        list_images(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InvalidInputError, match=r"holds no image \(1 other files\)"):
        list_images(tmp_path)
    with pytest.raises(InvalidInputError, match="is a file"):
        list_images(tmp_path / "notes.txt")
    (tmp_path / "photo.JPG").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"photo\.JPG is JPG, whose compression"):
        list_images(tmp_path)


# Downsampling


@given(hnp.arrays(np.uint8, (12, 9), elements=st.integers(0, 2)), st.integers(1, 4))
@settings(deadline=None, max_examples=50)
def test_majority_vote_takes_the_most_frequent_label(
    labels: np.ndarray[tuple[int, int], np.dtype[np.uint8]], factor: int
) -> None:
    small = downsample(labels, factor, 3)
    assert small.shape == (12 // factor, 9 // factor)
    for i, j in np.ndindex(small.shape):
        block = labels[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
        assert small[i, j] == np.bincount(block.ravel(), minlength=3).argmax()


def test_downsampling_undoes_enlarging() -> None:
    enlarged = np.kron(LABELS, np.ones((4, 4), dtype=np.uint8))
    assert np.array_equal(downsample(enlarged, 4, 3), LABELS)


# Splits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        _save(tmp_path / f"{name}.png", LABELS)
    return tmp_path


def _index(folder: Path, text: str) -> Path:
    path = folder / "index.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_index_by_name_with_or_without_suffix(folder: Path) -> None:
    path = _index(folder, "name,split,remark\nc,test,x\nb.png,train,\n")
    split = read_index(path, list_images(folder))
    assert {k: [f.name for f in v] for k, v in split.items()} == {
        "train": ["b.png"],
        "val": [],
        "test": ["c.png"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,part\na,train\n", "lacks the column 'split'"),
        ("", "lacks the column 'name'"),
        ("name,split\na,train\nbb.png,val\n", r"line 3: unknown image 'bb\.png'; did you mean"),
        ("name,split\na,trian\n", "line 2: unknown split 'trian'; did you mean 'train'"),
        ("name,split\na,train\na.png,test\n", r"line 3: a\.png is listed twice"),
        ("name,split\na,test\n", "names no train image"),
        ("name,split\na\n", "line 2: unknown split ''"),
    ],
)
def test_bad_index(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_index(_index(folder, text), list_images(folder))


def test_index_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read image index .*none\.csv"):
        read_index(folder / "none.csv", list_images(folder))
    (folder / "index.csv").write_bytes(b"name,split\n\xff\xfe,train\n")
    with pytest.raises(InvalidInputError, match="cannot read image index"):
        read_index(folder / "index.csv", list_images(folder))


def test_stem_of_two_files_is_no_name(folder: Path) -> None:
    _save(folder / "a.tif", LABELS)
    with pytest.raises(InvalidInputError, match="unknown image 'a'"):
        read_index(_index(folder, "name,split\na,train\n"), list_images(folder))


def test_many_images_are_split_by_name() -> None:
    image = np.zeros((20, 20), dtype=np.uint8)
    split = split_by_name([(f"{i:02d}", image) for i in range(20)], patch=16)
    assert split.names["train"] == tuple(f"{i:02d}" for i in range(14))
    assert split.names["val"] == ("14", "15", "16")
    assert split.names["test"] == ("17", "18", "19")
    assert "by file name" in split.note


@given(n=st.integers(3, 60))
@settings(deadline=None, max_examples=20)
def test_every_image_is_in_one_split(n: int) -> None:
    image = np.zeros((4, 4), dtype=np.uint8)
    split = split_by_name([(str(i), image) for i in range(n)], patch=4)
    names = [name for part in split.names.values() for name in part]
    assert sorted(names) == sorted(str(i) for i in range(n))
    assert all(split.names.values())


def test_one_large_image_is_cut_by_region() -> None:
    image = np.arange(100 * 200, dtype=np.int64).reshape(100, 200) % 251
    split = split_by_name([("one", image.astype(np.uint8))], patch=30)
    parts = [split.images[name][0] for name in ("train", "val", "test")]
    assert [p.shape for p in parts] == [(100, 140), (100, 30), (100, 30)]
    assert np.array_equal(np.concatenate(parts, axis=1), image)  # nothing lost, nothing shared
    assert "by region" in split.note


def test_one_small_image_is_all_train() -> None:
    split = split_by_name([("one", np.zeros((64, 64), dtype=np.uint8))], patch=32)
    assert split.names["train"] == ("one",)
    assert split.names["val"] == split.names["test"] == ()
    assert "all train" in split.note
