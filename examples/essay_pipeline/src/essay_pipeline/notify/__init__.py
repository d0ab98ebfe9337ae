"""*notify*: tells users, over WebSocket, what became of their essays, and serves the page."""
