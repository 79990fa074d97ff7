"""Every byte of a `.hnv` file: parsed, validated, then allocated.

Neither torch nor libav is loaded here.
"""
