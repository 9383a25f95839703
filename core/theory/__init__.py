"""The theory of Ferbach et al. (arXiv 2407.09499): population map, bounds, laws, forecasts."""
