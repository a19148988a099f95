"""The notebook, run from its first cell to its last against the real stack, with less data."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

STORY = Path(__file__).parents[2] / "docs" / "notebooks" / "story.ipynb"
SMALL = {"STORY_WORDS": "5", "STORY_CLIPS": "240", "STORY_STEPS": "1"}
CELL_SECONDS = 240


@pytest.fixture
def story(service, tmp_path, monkeypatch):
    """The notebook after a run; raises CellExecutionError where a cell fails."""
    for name, value in {"SECATEUR_URL": service, "STORY_FOLDER": str(tmp_path), **SMALL}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(STORY, as_version=4)
    place = {"metadata": {"path": STORY.parents[2]}}
    return NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=place).execute()


def shown(notebook, source):
    """What the cell that holds `source` put out: text, and the kinds of what it displayed."""
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    text = "".join(each.get("text", "") for each in cell.outputs)
    displays = [each.data for each in cell.outputs if "data" in each]
    return text, displays


def test_the_whole_story(story):
    assert "ASTForAudioClassification: 4 layers of 8 heads" in shown(story, "client.upload_model")[0]
    _, [bar] = shown(story, "job = client.submit")
    assert "succeeded" in bar["text/html"]
    assert "<table>" in bar["text/html"]
    assert any("image/png" in display for display in shown(story, "plt.subplots")[1])
    text, _ = shown(story, "They agree on")
    agree, of = text.splitlines()[-1].removeprefix("They agree on ").rstrip(".").split(" of ")
    assert int(of) == 5
    assert int(agree) >= 3
    assert shown(story, "pruned = load")[0].count("model.safetensors") == 1
