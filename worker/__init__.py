"""The model side: takes embedding jobs from the queue, batches them, runs the model, replies."""
