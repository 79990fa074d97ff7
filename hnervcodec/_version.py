"""The package's version, in a leaf module so that any other may import it."""

__version__ = "0.1.0"
