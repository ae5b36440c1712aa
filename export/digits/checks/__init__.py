"""What a candidate must pass, and what it takes along to prove itself later."""
