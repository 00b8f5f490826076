"""Peers made by hand for the benchmarks: as much of the protocols as a measurement takes, and nothing of bgpbfd."""
