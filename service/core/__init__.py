"""The rules of the service. Functions here know nothing of HTTP; they raise SecateurError and never commit partial changes."""
