"""Benchmarks: `python -m benchmarks` compares engines on the same rows, `soak.py` keeps many clients asking."""
