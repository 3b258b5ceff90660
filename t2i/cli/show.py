"""Pictures in the terminal: half blocks in colour; with textual-image, kitty's graphics or sixels where the terminal
knows them (iTerm2 knows sixels)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.cli.ui import UI

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console, ConsoleOptions, RenderableType

MOST = 4  # pictures of a batch that the preview shows
LINES = 20  # height of a picture, in lines of text
BLOCKS = "T2I_HALF_BLOCKS"  # an environment variable, for terminals that claim more than they can draw


@dataclass
class HalfBlocks:
    """For rich: two pixels a cell, one above the other. A cell is taken to be twice as high as wide."""

    image: Image
    lines: int = LINES

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from PIL.Image import Resampling
        from rich.color import Color
        from rich.segment import Segment
        from rich.style import Style

        width, height = self.image.size
        scale = min(2 * self.lines / height, options.max_width / width)
        columns, lines = max(1, round(width * scale)), max(1, round(height * scale / 2))
        small = self.image.convert("RGB").resize((columns, 2 * lines), Resampling.LANCZOS).tobytes()
        colours = [Color.from_rgb(*small[i : i + 3]) for i in range(0, len(small), 3)]
        for y in range(0, 2 * lines, 2):
            for x in range(columns):
                above, below = colours[y * columns + x], colours[(y + 1) * columns + x]
                yield Segment("▀", Style(color=above, bgcolor=below))
            yield Segment.line()


@dataclass
class Screen:
    """Draws for `--show` and `--preview` on stderr; stdout is for results."""

    show: bool
    preview: bool
    _kind: Any = None

    @classmethod
    def wanted(cls, ui: UI, show: bool, preview: bool) -> Screen | None:
        """A screen if something is to be shown; without a terminal a warning, and None."""
        if not show and not preview:
            return None
        if not sys.stderr.isatty():
            ui.warn("stderr is not a terminal: --show and --preview show nothing")
            return None
        return cls(show, preview and not ui.quiet)

    def picture(self, path: Path, image: Image | None) -> None:
        """Show a picture, read from `path` unless `image` is given."""
        from rich.console import Console

        if image is None:
            from t2i.media.images import load_image

            image = load_image(path)
        if self._kind is None:
            self._kind = _graphics() or HalfBlocks
        console = Console(stderr=True)
        lines = max(1, min(LINES, console.height - 2))
        if self._kind is HalfBlocks:
            console.print(HalfBlocks(image, lines))
        else:
            console.print(self._kind(image, width="auto", height=lines))

    def estimate(self, x0_hat: Any, console: Console) -> RenderableType | None:
        """The estimates x0_hat (B, 3, H, W) side by side in half blocks; None for a stage that draws no pixels."""
        if getattr(x0_hat, "ndim", 0) != 4 or x0_hat.shape[1] != 3:
            return None
        from PIL import Image

        from t2i.media.images import to_pil

        if not bool(x0_hat.isfinite().all()):
            return None
        by = max(1, x0_hat.shape[-1] // 64)  # no more pixels than a terminal has cells
        pictures = [to_pil(pixels[:, ::by, ::by]) for pixels in x0_hat[:MOST].float()]
        width, height = pictures[0].size
        step = width + max(1, width // 16)  # a gap between them
        sheet = Image.new("RGB", ((len(pictures) - 1) * step + width, height))
        for i, picture in enumerate(pictures):
            sheet.paste(picture, (i * step, 0))
        return HalfBlocks(sheet, max(1, min(LINES, console.height - 7)))


def _graphics() -> Any:
    """textual-image's renderable for this terminal; None where only half blocks work.

    The terminal is asked through stdin and stdout, so both must be terminals.
    """
    if os.environ.get(BLOCKS) or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    try:
        from textual_image.renderable import sixel, tgp
    except ImportError:
        return None
    # Konsole and WezTerm say that they know kitty's graphics, and do not draw the placeholders that are used here
    half_way = "WEZTERM_PANE" in os.environ or "KONSOLE_VERSION" in os.environ
    if not half_way and tgp.query_terminal_support():
        return tgp.Image
    return sixel.Image if sixel.query_terminal_support() else None
