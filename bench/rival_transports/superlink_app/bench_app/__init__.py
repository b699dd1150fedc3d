"""The Flower app that exchanges the arrays; superlink.py adds `ends` and the licence, and runs it."""
