"""The README's pictures of the page, with a real model: a whole job on it, in a service of its own.

    python -m scripts.write_readme_pictures --model CHECKPOINT --data DATA [--flops 0.75] [--steps 3]

Needs Chromium and Playwright, as `make test-ui` installs them. Writes readme-job, -layers and -new.png into docs/images.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from secateur import Secateur
from tests.support.servers.up import stack_up
from tests.ui.watching import IMAGES

CHROMIUM = "/usr/bin/chromium"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job, and take the pictures of what it came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", default="keyword spotting, 75% of FLOPs")
    parser.add_argument("--flops", type=float, default=0.75)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, stack_up(Path(folder)) as url:
        client = Secateur(url)
        model = client.models.upload(arguments.model)
        data = client.datasets.upload(arguments.data)
        pruning = {
            "target": {"flops": arguments.flops},
            "parts": ["attention", "feed_forward"],
            "schedule": {"steps": arguments.steps},
        }
        job = client.jobs.create(model, data, pruning=pruning, finetune=None, name=arguments.name)
        job.wait(progress=print)
        take(url, job.id)


def take(url: str, job: str) -> None:
    """Of a finished job its results and its layers, and the form that asks for it again."""
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
        for name, tab in (("job", "results"), ("layers", "layers")):
            page.goto(f"{url}/jobs/{job}?tab={tab}")
            expect(page.locator(f"#tab[data-tab={tab}]")).to_be_visible()
            page.wait_for_timeout(1000)  # Curves are drawn after the page is there.
            page.screenshot(path=IMAGES / f"readme-{name}.png")
        page.goto(f"{url}/new?like={job}")
        expect(page.locator("#estimate")).to_contain_text("FLOPs")
        page.wait_for_timeout(1000)
        page.screenshot(path=IMAGES / "readme-new.png")
        browser.close()


if __name__ == "__main__":
    main()
