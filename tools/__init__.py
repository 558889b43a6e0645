"""Tools for people who change the code. Nothing here is installed."""
