"""HeadStudio: one sentence becomes an animatable 3D head."""
