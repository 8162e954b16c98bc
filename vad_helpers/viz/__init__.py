"""Figures that take an axes and give it back."""
