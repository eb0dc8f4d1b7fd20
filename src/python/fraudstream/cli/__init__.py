"""Conventions of every command line: one-line errors, logs on stderr, exit codes that mean something."""
