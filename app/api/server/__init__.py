"""The HTTP server: uvicorn with deadlines and limits of its own."""
