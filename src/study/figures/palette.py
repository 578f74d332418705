"""The colours of figures and report: the palette of Okabe and Ito (2008), safe for colour-blind readers.

The report swaps ink, paper and grid for its own, in light and in dark.
"""

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
INK, MUTED, GRID, PAPER = "#1f2328", "#6e7781", "#d8dee4", "#ffffff"
