"""Reproducible companion of "Video Crowd Localization with Multi-focus Gaussian Neighbor Attention" (GNANet)."""

from __future__ import annotations

__version__ = "0.1.0"
