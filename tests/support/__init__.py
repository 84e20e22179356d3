"""What tests share: servers, clients, archives and models."""
