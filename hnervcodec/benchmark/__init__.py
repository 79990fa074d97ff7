"""How good the codec is, beside other codecs."""
