"""The looks of the workbench in one place: its two themes, and the colour and sign of each method.

The colours of methods can be told apart with normal sight and without red or green (Machado, Oliveira & Fernandes
2009), on either background; tests/tui/test_theme.py measures them. Where a terminal has no colours, the signs remain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

from rich.console import Console
from textual.constants import COLOR_SYSTEM
from textual.theme import Theme

if TYPE_CHECKING:
    from rich.style import Style
    from textual.widget import Widget


def _tracks(colour: str) -> dict[str, str]:
    """The variables of what a scrollbar runs in; Textual's own is the blackest part of a screen."""
    names = (
        "scrollbar-background",
        "scrollbar-background-hover",
        "scrollbar-background-active",
        "scrollbar-corner-color",
    )
    return dict.fromkeys(names, colour)


DARK: Final = Theme(
    name="kasoku",
    primary="#5b86ad",
    secondary="#7d8fa3",
    accent="#4fd6be",
    success="#3fb68b",
    warning="#e5b93c",
    error="#e5603b",
    foreground="#d5dbe3",
    background="#101418",
    surface="#141a20",
    panel="#1f2832",
    dark=True,
    variables={
        "border": "#2f3b48",
        "border-blurred": "#2f3b48",
        "scrollbar": "#2f3b48",
        "block-cursor-background": "#44688c",
        **_tracks("#141a20"),
    },
)
LIGHT: Final = Theme(
    name="kasoku-light",
    primary="#3a6f9e",
    secondary="#5d6f82",
    accent="#00796b",
    success="#00734f",
    warning="#8a6100",
    error="#b8431a",
    foreground="#1c2128",
    background="#f6f7f8",
    surface="#eff1f3",
    panel="#dfe4e9",
    dark=False,
    variables={"border": "#b9c2cc", "border-blurred": "#b9c2cc", "scrollbar": "#b9c2cc", **_tracks("#eff1f3")},
)
THEMES: Final = (DARK, LIGHT)

# Terminals with 16 colours would show the nearest of these, and so good and bad in the same grey. The same themes in
# colours that such a terminal has:
FEW: Final = "few-colours"
DARK_FEW: Final = replace(
    DARK,
    primary="#00aaaa",
    secondary="#aaaaaa",
    accent="#55ffff",
    success="#55ff55",
    warning="#ffff55",
    error="#ff5555",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    variables={
        "border": "#555555",
        "border-blurred": "#555555",
        "scrollbar": "#555555",
        "block-cursor-background": "#0000aa",
        "block-cursor-blurred-background": "#0000aa",
        "block-cursor-blurred-foreground": "#ffffff",
        "text-success": "#55ff55",
        "text-warning": "#ffff55",
        "text-error": "#ff5555",
        "text-accent": "#55ffff",
        FEW: "true",
        **_tracks("#000000"),
    },
)
LIGHT_FEW: Final = replace(
    LIGHT,
    primary="#0000aa",
    secondary="#555555",
    accent="#00aaaa",
    success="#00aa00",
    warning="#aa5500",
    error="#aa0000",
    foreground="#000000",
    background="#ffffff",
    surface="#ffffff",
    panel="#ffffff",
    variables={
        "border": "#aaaaaa",
        "border-blurred": "#aaaaaa",
        "scrollbar": "#aaaaaa",
        "block-cursor-background": "#0000aa",
        "block-cursor-blurred-background": "#0000aa",
        "block-cursor-blurred-foreground": "#ffffff",
        "text-success": "#00aa00",
        "text-warning": "#aa5500",
        "text-error": "#aa0000",
        "text-accent": "#00aaaa",
        FEW: "true",
        **_tracks("#ffffff"),
    },
)
THEMES_FEW: Final = (DARK_FEW, LIGHT_FEW)

ON_DARK: Final = (
    "#5eb8ff", "#d2b805", "#56b882", "#cc83af", "#d65222", "#8872ff", "#d3dcd8", "#fffd30", "#c9c564", "#4570bd",
)  # fmt: skip
ON_LIGHT: Final = (
    "#196bc3", "#cf7300", "#0f8662", "#ad388a", "#c91913", "#6b29cb", "#4b4450", "#636713", "#1892c4", "#1f9947",
)  # fmt: skip
ON_DARK_FEW: Final = (
    "#5555ff", "#ffff55", "#55ff55", "#ff55ff", "#aa5500", "#00aaaa", "#ffffff", "#aa00aa", "#00aa00", "#aaaaaa",
)  # fmt: skip
ON_LIGHT_FEW: Final = (
    "#0000aa", "#aa5500", "#00aa00", "#aa00aa", "#aa0000", "#00aaaa", "#000000", "#5555ff", "#555555", "#ff55ff",
)  # fmt: skip
SIGNS: Final = "●■▲◆▼★✚○□△◇▽☆"  # 13 against ten colours: 130 methods before both are the same
METHOD, FAINT = "method-", "-faint"
FAINT_SHARE: Final = 0.55  # of the colour, the rest is the background


Box = TypeVar("Box", bound="Widget")


def has_few_colours() -> bool:
    """Whether the terminal has 16 colours, as Textual judges it."""
    system = cast("Literal['auto'] | None", COLOR_SYSTEM)  # or any other of its names
    return Console(force_terminal=True, color_system=system).color_system == "standard"


def titled(box: Box, title: str) -> Box:
    """The container as a panel with this title in its border; app.tcss says what panels look like."""
    box.border_title = title
    return box.add_class("panel")


def method_style(place: int, *, faint: bool = False) -> str:
    """The style of the method at this place of its session, the same wherever the method appears.

    `faint`: of one that does not run now.
    """
    return f"{METHOD}{place}{FAINT if faint else ''}"


def is_method(style: str) -> bool:
    """Whether it is a style of `method_style`."""
    return style.startswith(METHOD)


def sign_of(style: str) -> str:
    """The sign that goes with a style: a method's own, else a dot."""
    return SIGNS[_place(style) % len(SIGNS)] if is_method(style) else SIGNS[0]


def drawn_in(name: str, base: Style, theme: Theme, colourless: bool = False) -> Style | None:
    """What a name of `method_style` looks like over a style in a theme; None for any other name.

    `colourless`: as text, or fainter than that; a colour's grey would say that a method matters less.
    """
    if not is_method(name):
        return None
    from rich.style import Style
    from textual.color import Color

    if colourless:
        return base + Style(dim=True) if name.endswith(FAINT) else base
    few = FEW in theme.variables
    colours = (ON_DARK_FEW if few else ON_DARK) if theme.dark else (ON_LIGHT_FEW if few else ON_LIGHT)
    colour = Color.parse(colours[_place(name) % len(colours)])
    if name.endswith(FAINT):
        behind = base.bgcolor
        if few or behind is None or behind.is_default:
            return base + Style(color=colour.rich_color, dim=True)
        colour = Color.from_rich_color(behind).blend(colour, FAINT_SHARE)
    return base + Style(color=colour.rich_color)


def _place(name: str) -> int:
    return int(name.removeprefix(METHOD).removesuffix(FAINT))
