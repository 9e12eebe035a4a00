"""The looks of the workbench in one place: its two themes, and the colour and sign of each method.

The colours of methods can be told apart with normal sight and without red or green (Machado, Oliveira & Fernandes
2009), on either background; tests/tui/test_theme.py measures them. Where a terminal has no colours, the signs remain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

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

ON_DARK: Final = (
    "#5eb8ff", "#d2b805", "#56b882", "#cc83af", "#d65222", "#8872ff", "#d3dcd8", "#fffd30", "#c9c564", "#4570bd",
)  # fmt: skip
ON_LIGHT: Final = (
    "#196bc3", "#cf7300", "#0f8662", "#ad388a", "#c91913", "#6b29cb", "#4b4450", "#636713", "#1892c4", "#1f9947",
)  # fmt: skip
SIGNS: Final = "●■▲◆▼★✚"  # seven against ten colours: seventy methods before both are the same
METHOD, FAINT = "method-", "-faint"
FAINT_SHARE: Final = 0.55  # of the colour, the rest is the background


Box = TypeVar("Box", bound="Widget")


def titled(box: Box, title: str) -> Box:
    """The container as a panel with this title in its border; app.tcss says what panels look like."""
    box.border_title = title
    return box.add_class("panel")


def method_style(place: int, *, faint: bool = False) -> str:
    """The style of the method at this place of its session, the same wherever the method appears.

    `faint`: of one that does not run now.
    """
    return f"{METHOD}{place}{FAINT if faint else ''}"


def sign_of(style: str) -> str:
    """The sign that goes with a style: a method's own, else a dot."""
    return SIGNS[_place(style) % len(SIGNS)] if style.startswith(METHOD) else SIGNS[0]


def drawn_in(name: str, base: Style, *, dark: bool) -> Style | None:
    """What a name of `method_style` looks like over a style; None for any other name."""
    if not name.startswith(METHOD):
        return None
    from rich.style import Style
    from textual.color import Color

    colours = ON_DARK if dark else ON_LIGHT
    colour = Color.parse(colours[_place(name) % len(colours)])
    if name.endswith(FAINT):
        behind = base.bgcolor
        if behind is None or behind.is_default:
            return base + Style(color=colour.rich_color, dim=True)
        colour = Color.from_rich_color(behind).blend(colour, FAINT_SHARE)
    return base + Style(color=colour.rich_color)


def _place(name: str) -> int:
    return int(name.removeprefix(METHOD).removesuffix(FAINT))
