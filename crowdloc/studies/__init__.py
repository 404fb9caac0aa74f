"""One file for each notebook that is no table of the paper."""
