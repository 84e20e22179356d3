"""Servers, clients, archives and models that tests share."""
