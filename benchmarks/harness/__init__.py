"""What the benchmarks share: cases, peers, metrics, cache, processes and reports."""
