"""Self-consuming loops with curated data: everything that needs only torch."""

import os

# MKL otherwise rounds by memory alignment, and a seed's bits would depend on the seeds beside it.
# Read at the first matrix product, so it may follow `import torch`.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
