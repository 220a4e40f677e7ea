"""Programs as users of clients write them; tests run them."""
