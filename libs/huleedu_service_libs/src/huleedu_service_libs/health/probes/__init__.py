"""How to look at the parts that services are made of, a module for each, so that none loads another's driver."""
