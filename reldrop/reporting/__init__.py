"""What tables are made of: records of runs, cells of runs that are alike but for the seed, layouts and formats."""
