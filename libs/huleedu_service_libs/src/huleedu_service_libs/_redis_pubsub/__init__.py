"""The parts of publish/subscribe: a connection that many share, subscribers' queues, and notifications that can be replayed.

`redis_pubsub` puts them together and hands on their public names. Nobody else imports them.
"""
