"""Files, processes and devices of the machine."""
