"""The whole pipeline on one machine, with a live view of it."""
