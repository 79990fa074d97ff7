"""A `.hnv` file to any of its frames."""
