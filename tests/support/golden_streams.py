"""Range-coded bytes that never change; the specification quotes them."""

GOLDEN_FREQUENCIES = [1702463, 2075384, 2529991, 4161540, 2529991, 2075384, 1702463]
GOLDEN_STREAM = "4816668bf07b638a408b5a79"
