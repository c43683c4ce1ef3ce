"""Tables of runs: records of runs, cells (one setting, several seeds), layouts and formats."""
