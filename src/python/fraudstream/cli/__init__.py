"""Conventions of every command line: one-line errors, talk on stderr, exit codes with a meaning."""
