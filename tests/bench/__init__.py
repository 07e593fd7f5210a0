"""What Rondel costs, beside what the same work costs without it.

`python -m tests.bench [operation ...] [--scale small|full]`; see docs/reference/benchmarks.md.
"""
