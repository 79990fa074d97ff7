"""One segment's fit: frames to integer levels. Nothing here is normative."""
