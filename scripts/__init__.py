"""Scripts that are run from the root of the repository and are no part of the package."""
