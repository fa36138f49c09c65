"""The campaign: hostile input of every kind, and an oracle that judges each call.

``python tests/fuzz/run.py --help`` says how to run it. ``values``, ``columns``
and ``tables`` draw tables from a seed; ``oracle`` judges a call, ``outputs`` what it
returns. The other modules are the parts: each has ``run(seed)``, which returns a
:class:`fuzz.sessions.Report`.
"""
