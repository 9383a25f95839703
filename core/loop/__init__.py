"""Algorithm 1 of Ferbach et al. (arXiv 2407.09499): the self-consuming loop with curation."""
