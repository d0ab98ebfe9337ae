"""Break things on purpose, and prove what survived.

Used by the library's own ``make chaos`` and by services in their tests:
``proxy`` stands between a client and its server and cuts, slows or loses;
take each name from the module that owns it.
"""
