"""Parts of the Kafka client and what is built on it; import from the module that owns a name."""
