"""Who may call: API keys and the gateway's certificate."""
