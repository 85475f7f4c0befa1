"""What Envoy shall do: listeners, routes, backends with the endpoints that have attached."""
