"""``make chaos``: real processes and servers, thousands of kills, and a judge. See docs/concepts/chaos.md."""
