"""What an operator does beside the running service: backups, and throwing away what nobody will ask for."""
