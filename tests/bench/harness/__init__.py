"""What the works stand on: figures and targets, the daemons under test, the report."""
