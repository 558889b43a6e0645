"""Looks of the world: how colours change, how subjects are outlined, whether ridges have a line.

A style leaves shapes, places and the names of colours as they are: one that hid the heading would take away from a
motion module what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from .board import RGB

WHITE: RGB = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Wash:
    """A change of colours: first towards grey, then darker or lighter by a tint, then towards another colour."""

    grey: float = 0.0
    tint: RGB = WHITE
    towards: RGB = WHITE
    share: float = 0.0

    def __call__(self, colour: RGB) -> RGB:
        grey = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
        dulled = [value + (grey - value) * self.grey for value in colour]
        tinted = [value * tint for value, tint in zip(dulled, self.tint, strict=True)]
        r, g, b = (value + (aim - value) * self.share for value, aim in zip(tinted, self.towards, strict=True))
        return r, g, b


@dataclass(frozen=True)
class Style:
    """A look.

    Attributes:
        ground: what happens to the colours of scenery and weather.
        figure: what happens to those of the subject.
        rim: the colour around the subject, and its width in units.
        ridge: the colour of a line along the scenery's edges, and its width.
        halo: how far the subject's colour shines around it, in units.
    """

    ground: Wash = Wash()
    figure: Wash = Wash()
    rim: RGB = (0.99, 0.98, 0.94)
    rim_width: float = 1.5
    ridge: RGB = WHITE
    ridge_width: float = 0.0
    halo: float = 0.0


STYLES: dict[str, Style] = {
    "plain": Style(),
    "ink": Style(
        ground=Wash(grey=1.0, tint=(0.98, 0.97, 0.93), towards=(0.97, 0.95, 0.89), share=0.3),
        rim=(0.10, 0.10, 0.13),
        rim_width=2.0,
        ridge=(0.34, 0.33, 0.35),
        ridge_width=1.7,
    ),
    "neon": Style(
        ground=Wash(grey=0.75, tint=(0.25, 0.16, 0.42), towards=(0.10, 0.03, 0.22), share=0.25),
        figure=Wash(tint=(1.08, 1.08, 1.08), towards=WHITE, share=0.06),
        rim=(0.98, 0.96, 1.0),
        rim_width=1.2,
        ridge=(0.20, 0.58, 0.70),
        ridge_width=1.8,
        halo=7.0,
    ),
    "pastel": Style(
        ground=Wash(grey=0.15, towards=(1.0, 0.90, 0.95), share=0.6),
        figure=Wash(towards=WHITE, share=0.22),
        rim=(1.0, 0.98, 1.0),
        rim_width=1.8,
    ),
}
