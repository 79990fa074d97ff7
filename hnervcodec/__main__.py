"""`python -m hnervcodec` is `hnv`."""

from hnervcodec.cli import main

if __name__ == "__main__":
    main()
