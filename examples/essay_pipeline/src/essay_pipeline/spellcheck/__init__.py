"""*spellcheck*: checks every submitted essay once and stores result and next event in one transaction."""
