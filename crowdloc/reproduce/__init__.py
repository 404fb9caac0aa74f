"""The batch reproduction: job graph, notebooks, report."""
