"""What stands behind the client: where its settings come from, how its connections live and end, and its desks.

A desk is a small class for one subject beside enqueueing (``client.tags``, ``client.tracking``), with a twin for code
without an event loop. It is reached through its client and shares its connection, its patience and its errors.
"""
