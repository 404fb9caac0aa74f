"""Timings of kernels, matching and loading, each run as `python -m crowdloc.benchmarks.NAME`."""
