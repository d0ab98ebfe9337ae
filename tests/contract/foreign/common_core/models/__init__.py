"""Models. Nothing is handed on here: the contract names the module below."""
