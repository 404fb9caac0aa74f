"""Experiments and what is stored of them: identity, evidence, tables, verdicts."""
