"""Mutation testing of the modules on whose correctness a promotion rests: ``python -m tests.mutants`` (docs/mutants.md)."""
