"""The benchmarks: what Oneself costs, as ratios measured in one run on one machine (docs/benchmarks.md)."""
