"""Folders that are dropped or chosen, and the pages of what they become."""

import base64
import io
import re
import wave
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from secateur.client.files.packing import pack_folder
from tests.support.checkpoints.tiny import tiny_model
from tests.ui.test_story import ready, sign_in
from tests.ui.watching import Watched, assert_usable, picture

ENTRIES = """
    const data = (name) => Uint8Array.from(atob(bytes[name] ?? ""), (letter) => letter.charCodeAt(0));
    const made = (name, inside) => inside === null
        ? { name, isFile: true, file: (done) => done(new File([data(name)], name)) }
        : { name, isDirectory: true, createReader: () => {
            const batches = [Object.entries(inside).map(([each, below]) => made(each, below)), []];
            return { readEntries: (done) => done(batches.shift()) };
        } };
    const script = document.querySelector("script[src*='/new/']").src;
    const folders = await import(script.replace("new.js", "folders.js"));
    const entry = made("called so", tree);
    const found = await folders.dropped({ items: [{ webkitGetAsEntry: () => entry }], files: [] });
"""
"""A folder as a browser hands it over, which no test can drop: `tree` of names, null for a file; `bytes` of files by name."""


def recordings(folder: Path) -> Path:
    """`train/yes/a.wav` and so on: two labels, two splits, and more rows than one row group of the page has."""
    for number in range(300):
        path = (
            folder
            / ("test" if number % 10 == 0 else "train")
            / ("no", "yes")[number % 2]
            / f"s{number % 7}_{number}.wav"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(bytes([number % 256, 1]) * 160)
    (folder / "README.md").write_text("Nothing to train on.")
    (folder / "train" / "_background").mkdir()
    (folder / "train" / "_background" / "hum.wav").write_bytes(b"RIFF")
    return folder


def packed_by_the_page(page: Page, folder: Path) -> dict[str, bytes]:
    """What the page would send of a folder that is dropped, by name."""
    tree: dict[str, Any] = {}
    files: dict[str, str] = {}
    for path in folder.rglob("*"):
        at = tree
        for part in path.relative_to(folder).parts[:-1]:
            at = at.setdefault(part, {})
        at[path.name] = at.get(path.name, {}) if path.is_dir() else None
        if path.is_file():
            files[path.name] = base64.b64encode(path.read_bytes()).decode()
    program = f"""async ([tree, bytes]) => {{{ENTRIES}
        const sent = await folders.filesOfData(found.files);
        const read = async (file) => {{
            let text = "";
            for (const byte of new Uint8Array(await file.arrayBuffer())) text += String.fromCharCode(byte);
            return [file.name, btoa(text)];
        }};
        return Object.fromEntries(await Promise.all(sent.map(read)));
    }}"""
    sent: dict[str, str] = page.evaluate(program, [tree, files])
    return {name: base64.b64decode(data) for name, data in sent.items()}


def refusal(page: Page, kind: str, tree: dict[str, Any]) -> str:
    """What the page says of a folder that it cannot take."""
    program = f"""async ([kind, tree, bytes]) => {{{ENTRIES}
        try {{ await folders[kind](found.files); return ""; }} catch (error) {{ return error.message; }}
    }}"""
    said: str = page.evaluate(program, [kind, tree, {}])
    return said


def test_folders_and_the_pages_of_what_they_become(
    seen: Watched, page: Page, house: tuple[str, str], tmp_path: Path
) -> None:
    url, key = house
    # Its labels are not the model's: the estimate says so, and the browser notes it.
    seen.expected += ["422 (Unprocessable"]
    sign_in(page, url, key)
    page.goto(f"{url}/new")
    ready(page)
    assert_usable(page, "an empty form")

    # The page packs recordings as the command line does, the same rows in the same shards.
    folder = recordings(tmp_path / "commands")
    pack_folder(folder, tmp_path)
    by_the_page = packed_by_the_page(page, folder)
    assert by_the_page.keys() == {path.name for path in tmp_path.glob("*.parquet")}
    for name, data in by_the_page.items():
        ours, theirs = pq.read_table(io.BytesIO(data)), pq.read_table(tmp_path / name)
        assert ours.to_pylist() == theirs.to_pylist(), name
        assert ours.schema.metadata.keys() == theirs.schema.metadata.keys()

    # What it cannot take it says, and what to do.
    assert "secateur submit" in refusal(page, "filesOfData", {"a.csv": None})
    assert "a.wav is not at" in refusal(page, "filesOfData", {"a.wav": None})
    assert "no config.json" in refusal(page, "filesOfModel", {"weights.bin": None})
    modules = {"config.json": None, "1_Pooling": {"config.json": None}, "onnx": {"model.onnx": None}}
    names = f"""async ([tree, bytes]) => {{{ENTRIES}
        return [found.name, ...folders.filesOfModel(found.files).map((file) => file.name)];
    }}"""
    assert page.evaluate(names, [modules, {}]) == ["called so", "config.json", "1_Pooling/config.json"]

    # Chosen folders are uploaded under their own names, and have pages.
    page.locator("#model-folder").set_input_files(tiny_model())
    expect(page.locator("#model")).to_have_value(re.compile("^mdl_"))
    page.locator(".source[data-kind=dataset] .upload-name").fill("two words")
    page.locator("#dataset-folder").set_input_files(folder)
    expect(page.locator("#dataset")).to_have_value(re.compile("^dst_"))
    page.goto(f"{url}/models")
    assert_usable(page, "models")
    page.get_by_role("link", name=tiny_model().name).click()
    expect(page.get_by_text("No job has pruned it yet.")).to_be_visible()
    assert_usable(page, "a model")
    picture(page, "model", height=760)
    page.get_by_role("link", name="Use in a new job").click()
    ready(page)
    expect(page.locator("#model")).to_have_value(re.compile("^mdl_"))
    page.goto(f"{url}/workers")
    expect(page.get_by_role("heading", name="Workers", exact=True)).to_be_visible()
    assert_usable(page, "workers")
    page.goto(f"{url}/datasets")
    page.get_by_role("link", name="two words").click()
    expect(page.locator("table.splits tbody tr")).to_have_count(2)
    expect(page.locator("table.splits")).to_contain_text("270")
    # Rows by class, and recordings that can be played.
    expect(page.locator("table.classes tbody tr")).to_have_text(
        [re.compile(r"no\s*150\s*120\s*30"), re.compile(r"yes\s*150\s*150\s*0")]
    )
    expect(page.locator(".samples audio")).to_have_count(8)
    heard = page.evaluate(
        """() => new Promise((done) => {
            const player = document.querySelector(".samples audio");
            player.onloadeddata = () => done(player.duration);
            player.onerror = () => done(player.error.message);
            player.load();
            player.preload = "auto";
        })"""
    )
    assert heard == pytest.approx(0.01)  # 160 samples at 16 kHz.
    assert_usable(page, "a dataset")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No data has been uploaded yet.")).to_be_visible()
