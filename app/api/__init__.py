"""The HTTP API: routes, and what they call. It never imports torch and never decodes audio."""
