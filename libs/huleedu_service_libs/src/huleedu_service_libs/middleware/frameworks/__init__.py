"""What fits the library to one web framework, a module for each; no module knows two of them."""
