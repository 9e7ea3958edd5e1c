"""What `invoke bench.up` compares: the pipeline with the same things done one after another, as a script would."""
