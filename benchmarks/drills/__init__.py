"""Outages on real servers, with curves: see ``__main__``."""
