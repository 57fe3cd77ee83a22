"""Make the pictures of reports in the documentation, with Chromium.

python -m tests.report.pictures
"""

import tempfile
from pathlib import Path

from agatha_ckpt._report.page import render
from tests.report import samples
from tests.report.pages import chromium

IMAGES = Path(__file__).parents[2] / "docs" / "images"
PICTURES = {  # checkpoints, width, height, dark or not, what is left out
    "report.png": (samples.pipeline, 1200, 1500, False, ""),
    "report-cards.png": (samples.small, 1200, 1945, False, ""),
    "report-narrow.png": (samples.pipeline, 400, 1255, True, ""),
    "report-many.png": (
        samples.large,
        1200,
        900,
        False,
        "body > header, .search, .search + section",
    ),
}


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "report.html"
        for filename, (sample, width, height, dark, hidden) in PICTURES.items():
            html = render(sample())
            if hidden:
                style = f"<style>{hidden} {{display: none}}</style></head>"
                html = html.replace("</head>", style)
            path.write_text(html, encoding="utf-8")
            shot = f"--screenshot={IMAGES / filename}"
            chromium(folder, path, shot, width=width, height=height, dark=dark)
            print(f"{filename}: {(IMAGES / filename).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
