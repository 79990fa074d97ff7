"""Files, streams, processes and devices of the machine, and numbers as callers bring them."""
