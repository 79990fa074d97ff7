"""`hnv`, and `python -m hnervcodec`."""

import os
import signal

# What numpy multiplies here is small, and OpenBLAS's threads cost 50 ms when they start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
    # Until `main` heeds it: an interrupt during the imports ends all, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from hnervcodec.cli import main

if __name__ == "__main__":
    main()
