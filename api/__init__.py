"""The HTTP side: takes requests, looks up or queues embeddings, searches, answers."""
