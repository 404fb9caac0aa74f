"""Errors, paths, files, provenance, locks: the floor that everything stands on."""
