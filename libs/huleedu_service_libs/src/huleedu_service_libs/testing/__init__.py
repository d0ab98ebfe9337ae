"""Real servers for tests and the demo: ``devstack`` and the pytest fixtures on top of it.

Shipped to services with the ``testing`` extra. The package itself imports
nothing; take names from the module that owns them
(``huleedu_service_libs.testing.devstack``). The fixtures of ``pytest_plugin``
are there by themselves in every pytest run.
"""
