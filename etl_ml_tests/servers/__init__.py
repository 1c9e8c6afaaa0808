"""Real servers for the tests, one module each; `fixtures` starts them."""
