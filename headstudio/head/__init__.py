"""Parametric heads: shape, expression and joints in, vertices out."""
