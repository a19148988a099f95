"""Images as encoders of images read them: transformers' own processor, bit for bit; and images and settings that are refused."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel
from PIL import Image
from transformers import (
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    DeiTImageProcessorPil,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
)
from transformers.image_transforms import center_crop
from transformers.image_utils import ChannelDimension

from api_schemas.enums import Head, Modality, Split
from api_schemas.errors import ErrorCode, SecateurError
from tests.support.checkpoints import preprocessors
from tests.support.checkpoints.rows import PICTURE, read, write_splits
from tests.support.uploads import picture
from worker.engine.data import PreparedData
from worker.engine.data.featurizers import images
from worker.engine.data.featurizers.base import Value
from worker.engine.data.featurizers.images import ImageFeaturizer, decode_rgb

NAMES = ("cat", "dog")
FEATURES = {"image": PICTURE, "label": ClassLabel(names=list(NAMES))}


def noise(seed: int, size: tuple[int, int] = (50, 40), kind: str = "PNG", mode: str = "RGB") -> bytes:
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def prepared(tmp_path: Path, images: list[bytes], kind: str = "vit", **changes: Any) -> PreparedData:
    rows = [{"image": image, "label": number % 2} for number, image in enumerate(images)]
    model = preprocessors.write(kind, tmp_path / "model")
    data = write_splits(tmp_path / "data", FEATURES, rows)
    return read(data, model, Modality.IMAGE, Head.CLASSIFICATION, tuple(reversed(NAMES)), **changes)


@pytest.mark.parametrize(
    ("kind", "processor"),
    [
        ("vit", ViTImageProcessorPil),
        ("deit", DeiTImageProcessorPil),
        ("clip_vision", CLIPImageProcessorPil),
        ("dinov2", BitImageProcessorPil),
        ("siglip_vision", SiglipImageProcessorPil),
    ],
)
def test_pixels_are_those_of_the_checkpoints_processor(tmp_path: Path, kind: str, processor: Any) -> None:
    images = [
        noise(0),
        noise(1, (33, 70), "JPEG"),
        noise(2, kind="WEBP"),
        noise(3, mode="L"),
        noise(4, mode="P", kind="GIF"),
    ]
    split = prepared(tmp_path, images, kind).splits[Split.TRAIN]
    reference = processor.from_pretrained(tmp_path / "model")
    expected = reference([Image.open(io.BytesIO(data)).convert("RGB") for data in images], return_tensors="np")
    inputs, targets = split.batch(range(5))
    assert inputs["pixel_values"].shape == (5, 3, preprocessors.SIDE, preprocessors.SIDE)
    np.testing.assert_array_equal(inputs["pixel_values"].numpy(), np.stack(expected["pixel_values"]))
    assert isinstance(split.inputs["pixel_values"], np.memmap)
    assert targets.tolist() == [1, 0, 1, 0, 1], "matched by name"
    assert split.uniform


@pytest.mark.parametrize(
    ("changes", "resized", "cropped"),
    [
        ({}, (32, 32), None),
        ({"resample": 3}, (32, 32), None),
        ({"size": {"height": 24, "width": 40}}, (24, 40), None),
        (
            {"size": {"shortest_edge": 33}, "do_center_crop": True, "crop_size": {"height": 32, "width": 30}},
            (33, 49),
            (32, 30),
        ),
        # Higher than the image is, for which zeros make up.
        (
            {"size": {"shortest_edge": 16}, "do_center_crop": True, "crop_size": {"height": 32, "width": 20}},
            (16, 24),
            (32, 20),
        ),
    ],
)
def test_dinov3_resizes_fractions_as_pillow_resizes_floats(
    tmp_path: Path, changes: dict[str, Any], resized: tuple[int, int], cropped: tuple[int, int] | None
) -> None:
    """transformers' class needs torchvision. Pillow's filters, of which torch's are a copy, by channel and without rounding."""
    folder = preprocessors.write("dinov3", tmp_path / "model")
    said = json.loads((folder / "preprocessor_config.json").read_text()) | changes
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    image = Image.open(io.BytesIO(noise(0, (60, 90))))
    found = ImageFeaturizer(folder)._pixels(image)
    values = np.asarray(image, dtype=np.float32) / 255
    channels = [
        np.asarray(Image.fromarray(channel).resize(resized[::-1], said["resample"]))
        for channel in values.transpose(2, 0, 1)
    ]
    expected = np.stack(channels)
    if cropped is not None:
        expected = center_crop(expected, cropped, ChannelDimension.FIRST, ChannelDimension.FIRST)
    expected = (expected - np.reshape(said["image_mean"], (3, 1, 1))) / np.reshape(said["image_std"], (3, 1, 1))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"height": 10**9, "width": 10**9}},
        {"size": {"height": 648, "width": 648}},
        {"size": {"height": 4, "width": 32}},
        {"size": {"max_height": 32, "max_width": 32}},
        {"do_center_crop": True},
        {"resample": 0},
        {"image_std": [0.0, 0.0, 0.0]},
    ],
)
def test_settings_that_dinov3_cannot_use_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = preprocessors.write("dinov3", tmp_path / "model", patch_size=8)
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(saved | settings))
    with pytest.raises(SecateurError) as caught:
        ImageFeaturizer(folder)
    assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_threads_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [noise(seed) for seed in range(70)]
    one = prepared(tmp_path, images).splits[Split.TRAIN]
    monkeypatch.setattr("worker.engine.data.pipeline.torch.get_num_threads", lambda: 4)
    four = prepared(tmp_path, images, cache_dir=tmp_path / "other").splits[Split.TRAIN]
    np.testing.assert_array_equal(one.inputs["pixel_values"], four.inputs["pixel_values"])


def test_pictures_are_turned_as_their_camera_says() -> None:
    upright = Image.new("RGB", (8, 4), (0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was held sideways.
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", exif=exif)
    assert decode_rgb(buffer.getvalue(), "train[0]").size == (4, 8)


def test_of_an_animation_the_first_frame() -> None:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert decode_rgb(buffer.getvalue(), "train[0]").getpixel((4, 4)) == (255, 0, 0)


def vast() -> bytes:
    """More pixels than are read. Of indices: to find colours for so many would take seconds."""
    buffer = io.BytesIO()
    Image.new("P", (9000, 9000)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["clip_vision", "dinov2", "dinov3"])
def test_a_strip_that_resizing_would_make_vast_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = preprocessors.write(kind, tmp_path)
    said = json.loads((folder / "preprocessor_config.json").read_text())
    crop = {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}} if kind == "dinov3" else {}
    (folder / "preprocessor_config.json").write_text(json.dumps(said | crop | {"size": {"shortest_edge": 24}}))
    featurizer, short = ImageFeaturizer(folder), 24
    monkeypatch.setattr(images, "MAX_RESIZED", 20 * short**2)
    assert featurizer.decode(Value({"bytes": noise(1, (4, 80)), "path": None}, from_files=False), "train[1]").ndim == 3
    with pytest.raises(SecateurError, match=f"{short} × {21 * short} pixels") as caught:
        featurizer.decode(Value({"bytes": noise(1, (4, 84)), "path": None}, from_files=False), "train[1]")
    assert caught.value.code is ErrorCode.IMAGE_UNDECODABLE


@pytest.mark.parametrize("broken", [picture()[:-30], b"BM nothing", noise(0, kind="TIFF"), vast()])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(SecateurError) as caught:
        prepared(tmp_path, [picture(), broken])
    assert caught.value.code is ErrorCode.IMAGE_UNDECODABLE
    assert caught.value.errors[0].pointer == "/train[1]"
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({"size": {"height": 10**9, "width": 10**9}}, {}),
        ({"size": {"height": 48, "width": 48}}, {}),
        ({"size": "large"}, {}),
        ({"image_mean": [0.5]}, {}),
        ({"image_std": [0.0, 0.0, 0.0]}, {}),
        ({"image_processor_type": "AutoImageProcessor"}, {}),
        ({"image_processor_type": "own.Own", "auto_map": {"AutoImageProcessor": "own.Own"}}, {}),
        ({}, {"image_size": 64}),
        ({}, {"num_channels": 1}),
        ({}, {"image_size": "large"}),
        ({"do_pad": True, "pad_size": {"height": 10**9, "width": 10**9}}, {}),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, settings: dict[str, Any], config: dict[str, Any]
) -> None:
    folder = preprocessors.write("vit", tmp_path / "model", **config)
    saved = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(saved | settings))
    with pytest.raises(SecateurError) as caught:
        ImageFeaturizer(folder)
    assert caught.value.code is ErrorCode.CONFIG_INVALID


def test_settings_from_before_processors_had_names(tmp_path: Path) -> None:
    folder = preprocessors.write("vit", tmp_path / "model")
    old = {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": preprocessors.SIDE,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(old))
    pixels = ImageFeaturizer(folder)._pixels(Image.new("RGB", (50, 50), (255, 255, 255)))
    np.testing.assert_allclose(pixels, 1.0, atol=1e-6)
