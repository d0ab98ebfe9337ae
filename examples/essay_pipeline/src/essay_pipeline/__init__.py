"""Three services that check essays on real servers: the example of huleedu-service-libs."""
