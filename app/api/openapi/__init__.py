"""The OpenAPI document: what FastAPI generates, completed, and a 3.0 copy of it."""
