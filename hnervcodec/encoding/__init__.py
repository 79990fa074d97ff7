"""A source and options to a `.hnv` file: plan, segments, workers, unfinished work."""
