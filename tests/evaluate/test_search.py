"""A folder of pictures searched with a sentence: against one cosine after the other, with files
that are no images.
"""

from pathlib import Path

import numpy as np
import pytest
import small_clip
from PIL import Image

from rs5m import clip, selo
from rs5m.evaluate import features, localize, search

QUERY = "a river in a forest"


@pytest.fixture(scope="module")
def model(architectures):
    return small_clip.random(False)


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    """Nine pictures of several shapes and kinds in a folder with spaces, two broken ones, and what
    is no picture.
    """
    monkeypatch.chdir(tmp_path)
    folder, generator = tmp_path / "my pictures", np.random.default_rng(0)
    (folder / "deeper/still").mkdir(parents=True)
    names = (
        "a.png",
        "b.JPG",
        "c.jpeg",
        "d.tif",
        "e.webp",
        "f.bmp",
        "deeper/a.png",
        "deeper/still/z.png",
    )
    for i, name in enumerate(names):
        noise = generator.integers(0, 256, (4 + i, 5, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((50 + 7 * i, 60)).save(folder / name)
    Image.fromarray(generator.integers(0, 256, (40, 40), dtype=np.uint8)).save(folder / "grey.gif")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:900])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("a river in a forest")
    (folder / "folder.png").mkdir()
    return folder


def one_by_one(model, folder: Path, query: str) -> dict[str, float]:
    text, found = clip.encode_texts(model, [query])[0], {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("cut.png", "empty.jpg", "notes.txt"):
            with Image.open(path) as image:
                vector = clip.encode_images(model, [np.array(image.convert("RGB"))], quiet=True)[0]
            found[path.relative_to(folder).as_posix()] = (
                vector @ text / np.linalg.norm(vector) / np.linalg.norm(text)
            )
    return found


def test_the_best_images_equal_one_after_the_other(model, pictures, capsys):
    slow = one_by_one(model, pictures, QUERY)
    assert len(slow) == 9
    order = sorted(slow, key=lambda name: -slow[name])
    got = search.folder(model, pictures, QUERY, k=4)
    assert [path.relative_to(pictures).as_posix() for path in got.files] == order[:4]
    assert got.cosines == pytest.approx([slow[name] for name in order[:4]], abs=1e-5)
    assert all(path.is_file() for path in got.files)
    assert got.skipped == {"cut.png": "truncated", "empty.jpg": "not_an_image"}
    assert (
        "my pictures: skipped 2 unreadable images: cut.png (truncated), empty.jpg (not_an_image)"
        in capsys.readouterr().out
    )


def test_more_than_there_is_gives_all(model, pictures):
    got = search.folder(model, pictures, QUERY, k=100)
    assert len(got.files) == len(got.cosines) == 9 and (np.diff(got.cosines) <= 0).all()


def test_another_sentence_needs_no_encoding_and_a_changed_file_does(model, pictures, monkeypatch):
    first, encode, calls = search.folder(model, pictures, QUERY, k=9), features.encode, []
    monkeypatch.setattr(
        features, "encode", lambda *given, **how: calls.append(1) or encode(*given, **how)
    )
    other = search.folder(model, pictures, "boats", k=9)
    assert (
        not calls
        and sorted(other.files) == sorted(first.files)
        and other.cosines.tolist() != first.cosines.tolist()
    )
    first.files[-1].write_bytes(first.files[0].read_bytes())
    search.folder(model, pictures, QUERY)
    assert calls, "other bytes under the same name are another picture"


def test_a_folder_named_by_text_or_by_a_dot_is_the_same(model, pictures, monkeypatch):
    expected = search.folder(model, pictures, QUERY, k=3)
    monkeypatch.chdir(pictures)
    got = search.folder(model, ".", QUERY, k=3)
    assert [path.resolve() for path in got.files] == expected.files
    assert got.cosines.tolist() == expected.cosines.tolist()


def test_what_is_no_folder_of_images_is_one_sentence(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/notes.txt").write_text("nothing")
    with pytest.raises(
        ValueError, match=r"bare holds no image: put \.jpg, .* files into it or its subfolders$"
    ):
        search.folder(model, tmp_path / "bare", QUERY)
    with pytest.raises(FileNotFoundError, match="gone is not a folder: name one that holds images"):
        search.folder(model, tmp_path / "gone", QUERY)
    (tmp_path / "bare/a.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="bare: none of 1 images is readable"):
        search.folder(model, tmp_path / "bare", QUERY)


def test_the_heat_map_of_a_file_is_that_of_its_pixels(model, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((400, 300)))
    Image.fromarray(pixels).save(tmp_path / "large.png")
    image, heat = search.heat_map(model, tmp_path / "large.png", QUERY)
    assert (image == pixels).all() and heat.shape == (300, 400) and heat.dtype == np.uint8
    windows = selo.windows(300, 400)
    vectors = localize.window_vectors(model, pixels, windows)
    text = clip.encode_texts(model, [QUERY])[0]
    cosines = vectors @ text / np.linalg.norm(vectors, axis=1) / np.linalg.norm(text)
    expected = selo.probability_map(windows, cosines, 300, 400)
    assert np.abs(heat.astype(int) - expected).max() <= 1


def test_a_file_that_is_no_image_has_no_heat_map(model, tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"cut\.png holds no whole image"):
        search.heat_map(model, tmp_path / "cut.png", QUERY)
