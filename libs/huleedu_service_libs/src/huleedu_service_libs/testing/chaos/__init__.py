"""Break things on purpose, and prove what survived.

Used by ``make chaos`` and by services in their tests. ``nursery`` starts,
watches and kills child processes; in them, ``child`` gives the crash points of
``points``. ``proxy`` and ``kafka_proxies`` stand between a client and its server and
cut, slow, silence or lose. ``oracle`` judges what ``readback`` has fetched. Take each
name from the module that owns it.
"""
