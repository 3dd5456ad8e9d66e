"""Figures as inline SVG: drawn in two widths, coloured by the stylesheet, readable without colour."""
