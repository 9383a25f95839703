"""Networks that look at images: classifiers, a file for each kind, and FID's feature network."""
