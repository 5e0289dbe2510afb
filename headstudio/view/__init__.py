"""Finished and unfinished heads in the browser (`python -m headstudio.view`), drawn there by viser."""
