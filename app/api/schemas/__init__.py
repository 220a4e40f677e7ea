"""What clients send and read, field by field, a module for each noun. The OpenAPI document is made from these."""
