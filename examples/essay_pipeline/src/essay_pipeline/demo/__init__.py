"""The demo: starts servers and services, sends essays through them and proves what arrived."""
