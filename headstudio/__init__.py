"""HeadStudio: one sentence becomes an animatable 3D head."""

__version__ = "0.1.0"
