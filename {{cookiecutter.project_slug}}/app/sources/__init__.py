"""Where answers look for passages: what `app.retrieval` asks."""
