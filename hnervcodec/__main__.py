"""`hnv`, and `python -m hnervcodec`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
    # Until `main` heeds it: an interrupt during the imports ends all, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from hnervcodec.cli import main

if __name__ == "__main__":
    main()
