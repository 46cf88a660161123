"""The OpenAI-style endpoint without its HTTP: requests, media, keys, turns among clients, and the answers' shapes."""
