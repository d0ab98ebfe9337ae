"""The web edge: layers around an ASGI application, for any framework."""
